"""Generated pages: text that was written for a terminal as markdown, and files that change only when they must."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

CODE = re.compile(r"(``.+?``|`[^`\n]+`)", re.DOTALL)
SPECIAL = re.compile(r"([\\*_<>\[\]{}#$|~^])")


def markdown(text: str) -> str:
    """Plain text as markdown: an indented block is a formula or code, everything else reads as it was written."""
    blocks = []
    for block in re.split(r"\n\s*\n", textwrap.dedent(text).strip("\n")):
        if block.startswith("    "):
            blocks.append(f"```text\n{textwrap.dedent(block)}\n```")
        else:
            pieces = CODE.split(block.strip())
            # Odd pieces are code and stay; in the others, `a*b*c` is a product and no emphasis.
            blocks.append(
                "".join(piece if odd % 2 else SPECIAL.sub(r"\\\1", piece) for odd, piece in enumerate(pieces))
            )
    return "\n\n".join(blocks)


def write_pages(folder: Path, pages: Mapping[str, str]) -> None:
    """Makes the folder hold exactly these pages; an unchanged file is left alone, so that Sphinx skips it."""
    for path, text in pages.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for file in folder.rglob("*.md"):
        if file.relative_to(folder).as_posix() not in pages:
            file.unlink()
