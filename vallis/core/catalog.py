"""Finds parts by name. The folder is the table: a file in it is a part, and adding one edits nothing else.

Listing reads file names and docstrings; it imports neither torch nor the parts. Outside packages add parts through
entry points in the groups ``vallis.problems``, ``vallis.models`` and so on, each naming ``package.module:Class``.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from vallis.core.errors import UnknownPart, UsageError

KINDS = ("problems", "models", "training", "measurements", "theory", "studies")
_SINGULAR = dict(zip(KINDS, ("problem", "model", "training", "measurement", "theory", "study"), strict=True))
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Entry:
    """Where a part lives: its name, the module and class that hold it, and the file when it is one of ours."""

    name: str
    module: str
    attribute: str
    file: Path | None


def class_name(name: str) -> str:
    """``hessian_spectrum`` -> ``HessianSpectrum``: the file names the class."""
    return "".join(word.capitalize() for word in name.split("_"))


def kind_of(word: str) -> str:
    """The kind a user means: "problem" and "problems" are one.

    Raises:
        UnknownPart: there is no such kind.
    """
    kind = next((plural for plural, one in _SINGULAR.items() if one == word), word)
    if kind not in KINDS:
        raise unknown("kind", word, KINDS)
    return kind


def singular(kind: str) -> str:
    """What one part of a kind is called: "problem" for "problems"."""
    return _SINGULAR[kind_of(kind)]


@cache
def entries(kind: str) -> dict[str, Entry]:
    """All parts of a kind by name, ours first, then those of installed packages."""
    folder = _PACKAGE / kind_of(kind)
    found = {}
    for file in sorted(folder.rglob("*.py")):
        if not file.name.startswith("_"):
            module = ".".join(("vallis", *file.relative_to(_PACKAGE).with_suffix("").parts))
            found[file.stem] = Entry(file.stem, module, class_name(file.stem), file)
    for point in entry_points(group=f"vallis.{kind_of(kind)}"):
        module, _, attribute = point.value.partition(":")
        found.setdefault(point.name, Entry(point.name, module, attribute, None))
    return found


def names(kind: str) -> list[str]:
    """The names of all parts of a kind, sorted."""
    return sorted(entries(kind))


def find(kind: str, name: str) -> Entry:
    """The entry of a part.

    Raises:
        UnknownPart: there is none; the message says what comes nearest.
    """
    table = entries(kind)
    if name not in table:
        raise unknown(singular(kind), name, table)
    return table[name]


def load(kind: str, name: str) -> type[Any]:
    """The class of a part; this is what imports it.

    Raises:
        UnknownPart: there is none of this name.
        UsageError: it is part of another package, and cannot be imported.
    """
    entry = find(kind, name)
    try:
        part: type[Any] = getattr(importlib.import_module(entry.module), entry.attribute)
    except Exception as error:
        if entry.file is not None:
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UsageError(
            f"a class was required at {entry.module}:{entry.attribute}, which an installed package offers as the "
            f"{singular(kind)} {name}, it cannot be imported ({said}): mend that package or uninstall it"
        ) from error
    return part


def docstring(kind: str, name: str) -> str:
    """The module docstring of a part, read without importing it; empty where there is no source that can be read."""
    entry = find(kind, name)
    file = entry.file or _source(entry.module)
    try:
        return "" if file is None else ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    except (OSError, SyntaxError, ValueError):  # whoever imports it is told
        return ""


def _source(module: str) -> Path | None:
    """The file of a module of another package; neither it nor a package above it is imported."""
    words, folders, origin = module.split("."), None, None
    for length in range(1, len(words) + 1):
        spec = PathFinder.find_spec(".".join(words[:length]), folders)
        if spec is None:
            return None
        folders, origin = spec.submodule_search_locations, spec.origin
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def summary(kind: str, name: str) -> str:
    """The first line of a part's docstring."""
    return docstring(kind, name).partition("\n")[0]


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownPart:
    """The error for a name that is not in a table, with the nearest ones."""
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
    return UnknownPart(f"no {what} is named {name!r}; {advice}")
