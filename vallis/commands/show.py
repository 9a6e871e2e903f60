"""Shows one part: what it is, its settings with the option that sets each, and its sources."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from vallis.commands import options
from vallis.core import catalog
from vallis.core.errors import UnknownPart, UsageError

EXAMPLES = """\
  vallis show hessian_spectrum     its definition, unit, cost, settings and sources
  vallis show model mlp            where a name is used by several kinds"""

_PREFIX = {"problems": "problem", "models": "model", "training": "training", "studies": "study"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("words", nargs="+", metavar="[KIND] NAME", help="the name of a part, after its kind or alone")


def run(args: argparse.Namespace) -> int:
    """Prints what is known of the part.

    Raises:
        UnknownPart: there is no part of this name.
        UsageError: there are more words than a kind and a name, or a kind alone.
    """
    *kinds, name = args.words
    if len(kinds) > 1:
        raise UsageError(f"a name, alone or after its kind, was required, {' '.join(args.words)} came: show one part")
    found = [catalog.kind_of(word) for word in kinds] or [kind for kind in catalog.KINDS if name in catalog.names(kind)]
    if not found:
        _must_not_be_a_kind(name)
        raise catalog.unknown("part", name, {name for kind in catalog.KINDS for name in catalog.names(kind)})
    print("\n\n".join(text(kind, name) for kind in found))
    return 0


def _must_not_be_a_kind(word: str) -> None:
    try:
        kind = catalog.kind_of(word)
    except UnknownPart:
        return
    raise UsageError(
        f"a name was required after the kind {word}, none came: choose one of {', '.join(catalog.names(kind))}"
    )


def text(kind: str, name: str) -> str:
    """A part in words.

    Raises:
        UnknownPart: there is none of this name.
    """
    part = catalog.load(kind, name)
    said = catalog.docstring(kind, name) or part.__doc__ or ""
    blocks = [f"{name}  ({kind})", _indented(said)]
    blocks.append("\n".join(["  Settings:", *settings(part, _PREFIX.get(kind, name))]))
    sources: Sequence[Any] = getattr(part, "sources", None) or [s for s in [getattr(part, "source", None)] if s]
    if sources:
        lines = [f"    {', '.join(filter(None, [s.authors, s.title, str(s.year), s.url]))}" for s in sources]
        blocks.append("\n".join(["  Sources:", *lines]))
    return "\n\n".join(blocks)


def settings(part: type[Any], prefix: str) -> list[str]:
    """A line or two for each setting of a part: the option that sets it, its type, its default, what it does."""
    columns = shutil.get_terminal_size((100, 24)).columns
    lines = []
    for item in options.settings_of(part):
        default = item.default if item.default == "required" else f"default: {item.default}"
        lines.append(
            f"    --{prefix}.{item.name} {item.type.upper() if item.type.isidentifier() else item.type}  ({default})"
        )
        if item.says:
            lines.append(textwrap.fill(item.says, columns, initial_indent=" " * 8, subsequent_indent=" " * 8))
    return lines or ["    none"]


def _indented(said: str) -> str:
    return textwrap.indent(textwrap.dedent(said).strip(), "  ")
