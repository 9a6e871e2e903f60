"""What the house tests know of the source tree: where it is, its modules, their syntax trees, its parts."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vallis.core import catalog

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vallis"

# The fixture that writes ``{path: text}`` into a package of its own, see conftest.py.
WriteTree = Callable[[Mapping[str, str]], Path]


def modules(package: Path = PACKAGE) -> list[Path]:
    """All Python files of a package. A tree without any is a mistake in the test, never a pass."""
    found = sorted(package.rglob("*.py"))
    assert found, f"no Python file under {package}"
    return found


def nothing(found: list[str]) -> None:
    """Fails with all that was found, one a line: pytest would show the first few."""
    assert not found, "\n".join(["", *found])


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def parts(package: Path = PACKAGE, kinds: tuple[str, ...] = catalog.KINDS) -> Iterator[tuple[str, Path]]:
    """The kind and the file of every part, by the catalog's rule: each file without a leading underscore is one."""
    for kind in kinds:
        for file in sorted((package / kind).rglob("*.py")):
            if not file.name.startswith("_"):
                yield kind, file


def tracked_like() -> list[Path]:
    """The files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
