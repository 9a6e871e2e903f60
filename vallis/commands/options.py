"""Options of parts on the command line: ``--model.widths 64,64`` sets the field `widths` of the model.

The options are the parts' own fields, so there is no list of them anywhere. A field that holds another part takes its
name, and its settings one dot further: ``--problem.base digits --problem.base.test_fraction 0.5``.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vallis.core import catalog
from vallis.core.errors import SettingsError, UsageError

_PROTOCOLS = {"Problem": "problems", "Model": "models", "Training": "training", "Measurement": "measurements"}
_PROTOCOLS |= {"Theory": "theory", "Study": "studies"}


@dataclass
class Tree:
    """What the command line says under one dotted name: its own value, and what is further down."""

    value: str | None = None
    below: dict[str, Tree] = field(default_factory=dict)

    def at(self, name: str) -> Tree:
        """What is under this name; empty when nothing was said."""
        return self.below.get(name, Tree())


def split(arguments: Sequence[str]) -> tuple[Tree, list[str]]:
    """Takes the dotted options out of the arguments.

    Returns:
        The options as a tree, and the other arguments.

    Raises:
        UsageError: an option has no value, or two.
    """
    tree, rest = Tree(), []
    words = iter(arguments)
    for word in words:
        name, given, value = word.partition("=")
        if not (name.startswith("--") and "." in name):
            rest.append(word)
            continue
        if not given:
            after = next(words, None)
            if after is None:
                raise UsageError(f"a value was required after {name}, none came: write {name}=VALUE")
            value = after
        node = tree
        for part in name.removeprefix("--").replace("-", "_").split("."):
            node = node.below.setdefault(part, Tree())
        if node.value is not None:
            raise UsageError(f"{name} was given twice, {node.value!r} and {value!r}: give it once")
        node.value = value
    return tree, rest


def assemble(kind: str, name: str, tree: Tree, settings: Mapping[str, Any] | None = None) -> Any:
    """A part with the settings that the command line gives it.

    Args:
        kind: of part.
        name: in the catalog.
        tree: what the command line says of it.
        settings: what holds where it says nothing, in place of the defaults.

    Raises:
        UnknownPart: there is no such part.
        SettingsError: a setting is unknown, of the wrong type, or refused by the part.
    """
    return _built(catalog.load(kind, name), tree, settings or {})


def only(tree: Tree, prefixes: Iterable[str]) -> None:
    """Refuses dotted options that go nowhere.

    Raises:
        UsageError: one begins with none of these prefixes.
    """
    known = list(prefixes)
    for name in tree.below:
        if name not in known:
            raise UsageError(str(catalog.unknown("option prefix", f"--{name}.", [f"--{word}." for word in known])))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A field of a part as a user sees it: its name, its type in words, its default, and what the part says of it."""

    name: str
    type: str
    default: str
    says: str


def settings_of(part: type[Any]) -> list[Setting]:
    """The settings of a part, in the order of its fields."""
    says, types_of = attributes(inspect.getdoc(part) or ""), hints(part)
    return [
        Setting(name=item.name, type=_words(types_of[item.name]), default=_default(item), says=says.get(item.name, ""))
        for item in dataclasses.fields(part)
        if item.init
    ]


def attributes(docstring: str) -> dict[str, str]:
    """What the section "Attributes:" of a docstring says, by name."""
    _, _, section = docstring.partition("Attributes:\n")
    found: dict[str, str] = {}
    name, margin = "", None
    for line in section.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent == 0:
            break  # the section is over
        margin = indent if margin is None and line.strip() else margin
        start = re.match(r"\s*(\w+)(?: \([^)]*\))?:\s*(.*)", line)
        if start and indent == margin:
            name = start[1]
            found[name] = start[2]
        elif name and line.strip():
            found[name] = f"{found[name]} {line.strip()}"
    return found


def read(hint: Any, text: str) -> Any:
    """The value that a text stands for in a field of this type; the text itself when it fits none.

    Numbers, ``true``, ``none``, lists with commas and anything in JSON are understood.
    """
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    try:
        adapter = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return text
    for candidate in _candidates(text):
        try:
            return adapter.validate_python(candidate)
        except ValidationError:
            continue
    return text


def _candidates(text: str) -> list[Any]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    return [_plain(text), text, [_plain(item) for item in items], items]


def _plain(text: str) -> Any:
    words = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _built(part: type[Any], tree: Tree, settings: Mapping[str, Any]) -> Any:
    from vallis.core import spec

    types_of = hints(part)
    given = dict(settings)
    for name, said in tree.below.items():
        default = given.get(name, _held(part, name))
        given[name] = _setting(f"{spec.name_of(part)}.{name}", types_of.get(name, Any), said, default)
    return spec.build(part, given)


def _setting(name: str, hint: Any, said: Tree, default: Any) -> Any:
    """The value of one field: a part, a mapping, or something plain."""
    kind = kind_of(hint)
    if kind is not None:
        if said.value is not None:
            return assemble(kind, said.value, said)
        if not dataclasses.is_dataclass(default) or isinstance(default, type):
            raise SettingsError(f"{name} must name a part before its settings are given: give it one of {kind}")
        held = {item.name: getattr(default, item.name) for item in dataclasses.fields(default) if item.init}
        return _built(type(default), said, held)
    if not said.below:
        return read(hint, said.value or "")
    if said.value is None and typing.get_origin(hint) in (dict, Mapping):
        inner = typing.get_args(hint)[1]
        return {**(default or {}), **{key: read(inner, below.value or "") for key, below in said.below.items()}}
    raise SettingsError(f"{name} holds a plain value, it has no setting {next(iter(said.below))!r}: give it a value")


def kind_of(hint: Any) -> str | None:
    """The kind of part that a field holds; None when it holds something plain."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next((kind for item in typing.get_args(hint) if (kind := kind_of(item)) is not None), None)
    return _PROTOCOLS.get(getattr(hint, "__name__", "")) if getattr(hint, "_is_protocol", False) else None


def _held(part: type[Any], name: str) -> Any:
    for item in dataclasses.fields(part):
        if item.name == name and item.default is not dataclasses.MISSING:
            return item.default
        if item.name == name and item.default_factory is not dataclasses.MISSING:
            return item.default_factory()
    return None


def hints(part: type[Any]) -> dict[str, Any]:
    """The types of the fields of a part, by name."""
    from vallis.core import protocols

    local = {name: getattr(protocols, name) for name in _PROTOCOLS}
    return typing.get_type_hints(part, include_extras=True, localns=local)


def _words(hint: Any) -> str:
    """A type as one would say it: ``int``, ``a | b``, ``float,...``, ``problem``."""
    if kind_of(hint) is not None and not typing.get_args(hint):
        return str(hint.__name__).lower()
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_words(item) for item in arguments)
    if origin in (tuple, list, frozenset, set):
        return ",".join("..." if item is Ellipsis else _words(item) for item in arguments)
    if origin is not None:
        return "JSON"
    return "none" if hint is type(None) else str(getattr(hint, "__name__", hint))


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is not dataclasses.MISSING:
        value = item.default
    elif item.default_factory is not dataclasses.MISSING:
        value = item.default_factory()
    else:
        return "required"
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or '""'
    return "none" if value is None else str(value)
