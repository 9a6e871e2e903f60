"""What the package imports is what pyproject.toml declares, and what it declares is what constraints.txt pins."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from tests.house.source import PACKAGE, ROOT, WriteTree, modules, nothing, parse

# Where the name to import is not the name to install.
INSTALLED_AS = {"sklearn": "scikit-learn"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(requirement: str) -> str:
    """``"Torch >=2.6"`` -> ``torch``, as the package index spells it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", requirement.strip())[0]).lower()


HARD = {name_of(requirement) for requirement in PROJECT["dependencies"]}
EXTRA = {name_of(item) for items in PROJECT["optional-dependencies"].values() for item in items} - {"vallis"}
PINS = {
    name_of(line): line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
}


def needed(node: ast.AST) -> set[str]:
    """The third-party packages that an import statement needs."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [node.module or ""]
    tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"vallis"}
    return {INSTALLED_AS.get(top, top) for top in tops}


def undeclared(package: Path) -> list[str]:
    """Imports of what is not installed with Vallis; an extra's package may be imported, but only when it is used."""
    found = []
    for file in modules(package):
        tree = parse(file)
        for node in ast.walk(tree):
            lazy = node not in tree.body
            for name in sorted(needed(node) - HARD - (EXTRA if lazy else set())):
                found.append(f"{file.relative_to(package)}:{getattr(node, 'lineno', 0)}: {name}")
    return found


def test_every_import_is_declared() -> None:
    nothing(undeclared(PACKAGE))


def test_a_violation_is_noticed(write_tree: WriteTree) -> None:
    code = "import json\nimport sklearn\nimport requests\nimport matplotlib\ndef f():\n    import matplotlib.pyplot\n"
    assert undeclared(write_tree({"report/page.py": code})) == [
        "report/page.py:3: requests",
        "report/page.py:4: matplotlib",
    ]


def test_everything_declared_is_pinned() -> None:
    assert (HARD | EXTRA) - set(PINS) == set()
    assert [line for line in PINS.values() if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_torch_stays_the_one_build() -> None:
    """There is no build of torchvision for the torch that is pinned here, so one would replace it."""
    assert PINS["torch"] == "torch==2.13.0"
    assert "torchvision" not in HARD | EXTRA | set(PINS)
    assert [
        file.name for file in modules() if any("torchvision" in needed(node) for node in ast.walk(parse(file)))
    ] == []
