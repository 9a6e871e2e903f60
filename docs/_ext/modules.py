"""Writes one API page for every public module of the layers that are used alone: core, numerics, optim.

The pages land in ``docs/modules/<layer>/<name>.md``, which git ignores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import write_pages
from sphinx.application import Sphinx

import vallis

LAYERS = ("core", "numerics", "optim", "testing")


def page(dotted: str) -> str:
    """The page of a module: its docstring and everything public in it."""
    directive = f"```{{eval-rst}}\n.. automodule:: {dotted}\n   :members:\n   :show-inheritance:\n```"
    return f"# `{dotted.removeprefix('vallis.')}`\n\n{directive}\n"


def generate(app: Sphinx) -> None:
    """Writes the pages of all modules."""
    package = Path(vallis.__file__).parent
    pages = {}
    for layer in LAYERS:
        for file in sorted((package / layer).rglob("*.py")):
            if not file.name.startswith("_"):
                name = ".".join(file.relative_to(package / layer).with_suffix("").parts)
                pages[f"{layer}/{name}.md"] = page(f"vallis.{layer}.{name}")
    write_pages(Path(app.srcdir) / "modules", pages)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True}
