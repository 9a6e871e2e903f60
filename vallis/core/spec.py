"""Between a part, plain JSON, and the digest that names its results.

A spec holds all fields, defaults included. The digest is the SHA-256 of the spec and of nothing else, with one grace:
a field declared with ``field(default=..., metadata={"was": value})`` is left out of the digest while it holds `value`,
so that results made before the field existed keep their name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from vallis.core import catalog
from vallis.core.errors import SettingsError, UsageError


def is_part(value: object) -> bool:
    """Whether the value is an instance of a part: a dataclass with a `version`."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "version")


def name_of(part: object) -> str:
    """The catalog name of a part; ``module:Class`` for one that is in no catalog folder."""
    _, name = _home(part if isinstance(part, type) else type(part))
    return name


def to_spec(part: Any) -> dict[str, Any]:
    """The part as plain JSON: kind, name, version and all its settings."""
    kind, name = _home(type(part))
    settings = {item.name: _plain(getattr(part, item.name)) for item in dataclasses.fields(part)}
    return {"kind": kind, "name": name, "version": type(part).version, "settings": settings}


def from_spec(spec: Mapping[str, Any]) -> Any:
    """The part a spec describes; a missing setting takes its `was` value, or its default.

    Raises:
        UnknownPart: no part of that kind and name.
        SettingsError: a setting is unknown, or of the wrong type.
        UsageError: it is no spec, or was made by a version with another meaning.
    """
    if not isinstance(spec, Mapping) or not {"kind", "name"} <= set(spec) or not _is_settings(spec):
        raise UsageError(f"a spec with kind, name and settings was required, {spec!r:.80} came: take one from to_spec")
    part = _class_of(spec["kind"], spec["name"])
    if spec.get("version", part.version) != part.version:
        raise UsageError(
            f"{spec['name']} of version {part.version} was required, the spec is of version {spec['version']}: "
            "its numbers mean something else, so run it again"
        )
    given = {name: _rebuilt(value) for name, value in spec.get("settings", {}).items()}
    for item in dataclasses.fields(part):
        if item.name not in given and "was" in item.metadata:
            given[item.name] = item.metadata["was"]
    return build(part, given)


def build(part: type[Any], settings: Mapping[str, Any]) -> Any:
    """An instance of a part from settings by name, each converted to the type of its field.

    Raises:
        SettingsError: a setting is unknown, of the wrong type, or refused by the part.
    """
    known = {item.name: item for item in dataclasses.fields(part)}
    hints = typing.get_type_hints(part, include_extras=True, localns=_part_types())
    for name in settings:
        if name not in known:
            raise SettingsError(f"{name_of(part)}: {catalog.unknown('setting', name, known)}")
    converted = {name: _convert(part, name, hints[name], value) for name, value in settings.items()}
    missing = [n for n, f in known.items() if n not in settings and _required(f)]
    if missing:
        raise SettingsError(f"{name_of(part)} requires a value for {', '.join(missing)}, and none came: give one")
    return part(**converted)


def digest(value: Any) -> str:
    """The SHA-256, in hex, of a part or of a tree of parts and plain JSON values."""
    return hashlib.sha256(canonical(_identity(value)).encode(errors="surrogatepass")).hexdigest()


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, shortest floats.

    Raises:
        SettingsError: the value holds NaN or an infinity, which JSON has no word for.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise SettingsError(f"settings must be finite plain values to have a name: {error}") from error


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _home(part: type) -> tuple[str, str]:
    words = part.__module__.split(".")
    if (
        words[0] == "vallis"
        and len(words) > 2
        and words[1] in catalog.KINDS
        and catalog.class_name(words[-1]) == part.__name__
    ):
        return words[1], words[-1]
    for kind in catalog.KINDS:
        for entry in catalog.entries(kind).values():
            if (entry.module, entry.attribute) == (part.__module__, part.__qualname__):
                return kind, entry.name
    return "outside", f"{part.__module__}:{part.__qualname__}"


def _class_of(kind: str, name: str) -> type[Any]:
    if kind != "outside":
        return catalog.load(kind, name)
    # A spec may come from a file: only what the caller has already imported is looked up, nothing is imported for it.
    module, _, attribute = name.partition(":")
    found = getattr(sys.modules.get(module), attribute, None)
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        raise UsageError(f"the part {name} is in no catalog: import {module} before reading this spec")
    return found


def _plain(value: Any) -> Any:
    if is_part(value):
        return to_spec(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SettingsError(f"a setting must be a plain value or a part, {type(value).__name__} came: use numbers or text")


def _identity(value: Any) -> Any:
    if not is_part(value):
        if isinstance(value, Mapping):
            return {str(key): _identity(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            return [_identity(item) for item in value]
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            return int(value)  # 1 and 1.0 are the same setting
        return _plain(value)
    kind, name = _home(type(value))
    settings = {}
    for item in dataclasses.fields(value):
        held = getattr(value, item.name)
        if not ("was" in item.metadata and held == item.metadata["was"]):
            settings[item.name] = _identity(held)
    return {"kind": kind, "name": name, "version": type(value).version, "settings": settings}


def _rebuilt(value: Any) -> Any:
    if isinstance(value, Mapping) and {"kind", "name", "settings"} <= set(value):
        return from_spec(value)
    if isinstance(value, list):
        return [_rebuilt(item) for item in value]
    return value


def _convert(part: type, name: str, hint: Any, value: Any) -> Any:
    if _mentions_protocol(hint):
        return _convert_parts(part, name, hint, value)
    if is_part(value) and (not isinstance(hint, type) or isinstance(value, hint)):
        return value
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise SettingsError(
            f"{name_of(part)}.{name} must be {_said(hint)}, {value!r} came: {error.errors()[0]['msg'].lower()}"
        ) from error


def _convert_parts(part: type, name: str, hint: Any, value: Any) -> Any:
    forms = {typing.get_origin(form) for form in (hint, *typing.get_args(hint))}
    if isinstance(value, (list, tuple)) and forms & {tuple, list}:
        items = [_convert_parts(part, name, Any, item) for item in value]
        return tuple(items) if tuple in forms else items
    if not is_part(value) and not (value is None and type(None) in typing.get_args(hint)):
        raise SettingsError(f"{name_of(part)}.{name} must be a part, {value!r} came: give one, with its settings")
    return value


def _said(hint: Any) -> str:
    """A type as a reader of the message would write it: a choice by its values."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_said, arguments))
    if hint is type(None):
        return "None"
    return hint.__name__ if isinstance(hint, type) and not arguments else str(hint)


def _is_settings(spec: Mapping[str, Any]) -> bool:
    return isinstance(spec.get("settings", {}), Mapping)


def _mentions_protocol(hint: Any) -> bool:
    if getattr(hint, "_is_protocol", False):
        return True
    if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple, list):
        return any(_mentions_protocol(item) for item in typing.get_args(hint))
    return False


def _part_types() -> dict[str, Any]:
    # Parts import protocols under TYPE_CHECKING at will; their annotations must still be readable here.
    from vallis.core import protocols

    kinds = ("Problem", "Model", "Training", "Measurement", "Theory", "Study")
    return {name: getattr(protocols, name) for name in kinds}
