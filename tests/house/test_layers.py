"""Imports point down: a file imports from its own layer or a lower one, and a part never a part of its own kind.

What two parts of a kind share moves down a layer, or into a file whose name starts with an underscore: that is no part.
Such a file imports no part either, save under TYPE_CHECKING, to annotate with the settings of the part that it serves.
Every import counts: lazy ones inside functions, those under TYPE_CHECKING, and ``import_module("vallis...")``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, WriteTree, modules, nothing, parse
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
    "commands",
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


def is_part(target: str, package: Path) -> bool:
    """Whether a dotted name under a kind leads into a part: it does, unless it enters an underscore file first."""
    path = package.parent
    for word in target.split("."):
        if word.startswith("_"):
            return False
        path = path / word
        if path.with_suffix(".py").is_file():
            break
    return True


def lines_of_annotations(tree: ast.Module) -> set[int]:
    """The lines under ``if TYPE_CHECKING:``."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {statement.lineno for block in blocks for statement in block.body}


def violations(package: Path) -> list[str]:
    found = []
    for file in modules(package):
        path = file.relative_to(package.parent)
        here = layer(".".join(path.with_suffix("").parts))
        tree = parse(file)
        excused = lines_of_annotations(tree) if file.name.startswith("_") else set()
        for line, target in imported(tree, ".".join(path.parent.parts)):
            there = layer(target)
            if ORDER.index(there) > ORDER.index(here):
                found.append(f"{path}:{line}: {here or 'the public face'} imports {target}, which is above it")
            elif there == here and here in KINDS and is_part(target, package) and line not in excused:
                found.append(f"{path}:{line}: {target} is of the same kind; what two parts need moves down")
    return found


def test_imports_point_down() -> None:
    nothing(violations(PACKAGE))


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
        ("models/mlp.py", "if TYPE_CHECKING:\n    from vallis.run.store import Store"),
        ("models/mlp.py", "from vallis.models.resnet import Resnet"),
        ("models/mlp.py", "from . import resnet"),
        ("models/mlp.py", "from vallis.models import Mlp"),
        ("models/mlp.py", "if TYPE_CHECKING:\n    from vallis.models.resnet import Resnet"),
        ("models/_build.py", "from vallis.models.resnet import Resnet"),
        ("models/mlp.py", "from vallis.models.resnet import _secret"),
        ("measurements/curvature/trace.py", "from vallis.measurements.fit import margins"),
        ("measurements/curvature/trace.py", "from ..fit.margins import Margins"),
        ("run/store.py", "from vallis.report.page import Page"),
    ],
)
def test_a_violation_is_noticed(write_tree: WriteTree, path: str, code: str) -> None:
    (found,) = violations(write_tree({"models/resnet.py": "", path: code}))
    assert path in found


def test_downward_imports_pass(write_tree: WriteTree) -> None:
    package = write_tree(
        {
            "core/types.py": "import torch\nfrom vallis import __version__\nfrom . import rng",
            "numerics/trace.py": "from vallis.numerics import operators\nfrom ..core import types",
            "models/mlp.py": "from vallis.models._build import Init\nfrom . import _build",
            "models/_build.py": "if TYPE_CHECKING:\n    from vallis.models.mlp import Mlp",
            "measurements/fit/margins.py": "from vallis.theory.bounds import Bound\nimport vallis.core.types",
            "run/store.py": "def f():\n    from vallis.core import spec\n    from .plan import Plan",
            "cli.py": "from vallis.report import page",
            "__init__.py": "from vallis.cli import main",
        }
    )
    assert violations(package) == []
