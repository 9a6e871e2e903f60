"""Imports point down: a file imports from its own layer or a lower one, and a part never a part of its own kind.

Every import counts: lazy ones inside functions, those under TYPE_CHECKING, and ``import_module("vallis...")``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, WriteTree, modules, parse
from vallis.core.catalog import KINDS

ORDER = (
    "core",
    "testing",
    "numerics",
    "optim",
    "problems",
    "models",
    "training",
    "theory",
    "measurements",
    "studies",
    "run",
    "report",
    "cli",
    "",  # vallis/__init__.py and __main__.py, the public face
)


def layer(dotted: str) -> str:
    """``vallis.core.types`` -> ``core``; what is in no layer belongs to the public face, which is on top."""
    first = [*dotted.split("."), ""][1]
    return first if first in ORDER else ""


def imported(tree: ast.Module, home: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import of vallis; `home` is the dotted package in which relative imports start."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)]
        # The version is a plain string that any file may stamp on what it writes.
        yield from (
            (node.lineno, name) for name in names if name.split(".")[0] == "vallis" and name != "vallis.__version__"
        )


def violations(package: Path) -> list[str]:
    found = []
    for file in modules(package):
        path = file.relative_to(package.parent)
        here = layer(".".join(path.with_suffix("").parts))
        for line, target in imported(parse(file), ".".join(path.parent.parts)):
            there = layer(target)
            if ORDER.index(there) > ORDER.index(here):
                found.append(f"{path}:{line}: {here or 'the public face'} imports {target}, which is above it")
            elif there == here and here in KINDS:
                found.append(f"{path}:{line}: {target} is of the same kind; what two parts need moves down")
    return found


def test_imports_point_down() -> None:
    assert violations(PACKAGE) == []


def test_every_module_has_a_layer() -> None:
    """A new top-level folder must be given its place in ORDER."""
    top = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in modules()}
    assert top - {"__init__", "__main__"} <= set(ORDER)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("core/types.py", "import vallis.numerics.trace"),
        ("core/types.py", "from vallis import examine"),
        ("core/types.py", "import vallis"),
        ("core/types.py", "from vallis import testing"),
        ("numerics/trace.py", "from vallis.problems.digits import Digits"),
        ("numerics/trace.py", "from ..problems.digits import Digits"),
        ("numerics/trace.py", "from .. import models"),
        ("optim/sam.py", "def f():\n    from vallis.training import population"),
        ("optim/sam.py", "import importlib\nimportlib.import_module('vallis.cli')"),
        (
            "models/mlp.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vallis.run.store import Store",
        ),
        ("models/mlp.py", "from vallis.models.resnet import Resnet"),
        ("models/mlp.py", "from . import resnet"),
        ("measurements/curvature/trace.py", "from vallis.measurements.fit import margins"),
        ("measurements/curvature/trace.py", "from ..fit.margins import Margins"),
        ("run/store.py", "from vallis.report.page import Page"),
    ],
)
def test_a_violation_is_noticed(write_tree: WriteTree, path: str, code: str) -> None:
    (found,) = violations(write_tree({path: code}))
    assert path in found


def test_downward_imports_pass(write_tree: WriteTree) -> None:
    package = write_tree(
        {
            "core/types.py": "import torch\nfrom vallis import __version__\nfrom . import rng",
            "numerics/trace.py": "from vallis.numerics import operators\nfrom ..core import types",
            "measurements/fit/margins.py": "from vallis.theory.bounds import Bound\nimport vallis.core.types",
            "run/store.py": "def f():\n    from vallis.core import spec\n    from .plan import Plan",
            "cli.py": "from vallis.report import page",
            "__init__.py": "from vallis.cli import main",
        }
    )
    assert violations(package) == []
