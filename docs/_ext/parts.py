"""Writes one page for every part of the catalog before the build, so that adding a part needs no edit of the docs.

The pages land in ``docs/parts/<kind>/<name>.md``, which git ignores.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pages import markdown, write_pages
from sphinx.application import Sphinx

from vallis.core import catalog

TITLES = {
    "problems": "Problems",
    "models": "Models",
    "training": "Training",
    "measurements": "Measurements",
    "theory": "Theory",
    "studies": "Studies",
}
# What a measurement declares of itself, where it does.
DECLARED = ("takes", "needs", "invariances", "panels", "version")
LABEL = re.compile(r"^(Definition|Unit|Source|Cost|Says little when):", re.MULTILINE)


def body(docstring: str) -> str:
    """The module docstring as markdown: what is labelled becomes a definition list, the rest stays as it is."""
    _, _, rest = docstring.partition("\n")
    before, *labelled = LABEL.split(rest)
    blocks = [markdown(before)]
    for label, text in zip(labelled[::2], labelled[1::2], strict=True):
        # A continuation line is indented or not, as its author liked.
        first, _, more = text.strip("\n").partition("\n")
        paragraphs = markdown(f"{first.strip()}\n{textwrap.dedent(more)}")
        blocks.append(f"{label}\n: {textwrap.indent(paragraphs, '  ').strip()}")
    return "\n\n".join(block for block in blocks if block)


def attributes(part: type[Any]) -> dict[str, str]:
    """What the ``Attributes:`` section of a class docstring says of each setting."""
    _, _, section = (inspect.getdoc(part) or "").partition("Attributes:\n")
    entries = re.split(r"^ {4}(\w+)(?: \([^)]*\))?: ", section.split("\n\n")[0], flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)}


def default(field: dataclasses.Field[Any]) -> str:
    """The default as it would be typed."""
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`"
    return "must be given"


def settings(part: type[Any]) -> str:
    """A table of the settings."""
    meanings = attributes(part)
    rows = [
        (f"`{field.name}`", f"`{field.type}`", default(field), markdown(meanings.get(field.name, "")))
        for field in dataclasses.fields(part)
    ]
    if not rows:
        return "It has no settings."
    table = [("setting", "type", "default", "meaning"), ("---",) * 4, *rows]
    # A bar would end the cell, even inside code.
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table)


def declared(part: type[Any]) -> str:
    """What the class says of itself in plain values: what it takes, needs and leaves invariant."""
    lines = []
    for name in DECLARED:
        value = getattr(part, name, None)
        words = sorted(map(str, value)) if isinstance(value, frozenset | tuple) else [str(value)]
        if name == "invariances" and isinstance(value, Mapping):
            words = [f"{key}: {' and '.join(sorted(names)) or 'nothing'}" for key, names in value.items()]
        if value is not None:
            lines.append(f"`{name}`\n: {', '.join(words) or 'nothing'}")
    return "\n\n".join(["## Declared", *lines]) if lines else ""


def page(kind: str, name: str) -> str:
    """The page of a part."""
    part = catalog.load(kind, name)
    docstring = catalog.docstring(kind, name) or inspect.getdoc(part) or ""
    sections = [
        f"# `{name}`",
        markdown(docstring.partition("\n")[0]),
        body(docstring),
        f"```python\nfrom {part.__module__} import {part.__name__}\n```",
        "## Settings",
        settings(part),
        declared(part),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def index(kind: str, names: list[str]) -> str:
    """The page of a kind: its parts with what they do, in one line each."""
    rows = [f"[`{name}`]({name}.md)\n: {markdown(catalog.summary(kind, name)) or name}" for name in names]
    toctree = "\n".join(["```{toctree}", ":hidden:", *names, "```"])
    listed = "\n\n".join([*rows, toctree]) if names else "There is none yet."
    return f"# {TITLES.get(kind, kind.capitalize())}\n\n{listed}\n"


def generate(app: Sphinx) -> None:
    """Writes the pages of all parts."""
    pages = {}
    for kind in catalog.KINDS:
        names = catalog.names(kind)
        pages[f"{kind}/index.md"] = index(kind, names)
        pages |= {f"{kind}/{name}.md": page(kind, name) for name in names}
    write_pages(Path(app.srcdir) / "parts", pages)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True}
