"""A part is one file that holds one frozen dataclass of the file's name, and says what it measures."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, WriteTree, nothing, parse, parts
from vallis.core.catalog import KINDS

LABELS = ("Definition", "Unit", "Source", "Cost", "Says little when")


def camel_case(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def is_frozen_dataclass(node: ast.ClassDef) -> bool:
    return any(
        isinstance(decorator, ast.Call)
        and ast.unparse(decorator.func).rpartition(".")[2] == "dataclass"
        and any(keyword.arg == "frozen" and ast.unparse(keyword.value) == "True" for keyword in decorator.keywords)
        for decorator in node.decorator_list
    )


def misnamed(package: Path) -> list[str]:
    """Part files without a frozen dataclass in CamelCase of their name."""
    found = []
    for kind, file in parts(package):
        classes = {node.name: node for node in parse(file).body if isinstance(node, ast.ClassDef)}
        wanted = camel_case(file.stem)
        if wanted not in classes:
            found.append(f"{kind}/{file.name}: no class {wanted}")
        elif not is_frozen_dataclass(classes[wanted]):
            found.append(f"{kind}/{file.name}: {wanted} is no frozen dataclass")
    return found


def repeated(package: Path) -> list[str]:
    """Names that two files of one kind share, over all family folders: the catalog could find only one of them."""
    counts = Counter((kind, file.stem) for kind, file in parts(package))
    return [f"{kind}: {name}" for (kind, name), count in counts.items() if count > 1]


def mute(package: Path) -> list[str]:
    """Measurements and theories whose module docstring lacks one of the labelled lines, or says nothing after it."""
    found = []
    for kind, file in parts(package, ("measurements", "theory")):
        text = ast.get_docstring(parse(file)) or ""
        missing = [label for label in LABELS if not re.search(rf"^{label}:\s+\S", text, re.MULTILINE)]
        if missing:
            found.append(f"{kind}/{file.name}: no {', no '.join(missing)}")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_parts_of_every_kind(kind: str) -> None:
    """The tests below pass on an empty folder; this one does not."""
    assert [file for found, file in parts() if found == kind]


def test_the_file_names_the_class() -> None:
    nothing(misnamed(PACKAGE))


def test_names_are_unique() -> None:
    nothing(repeated(PACKAGE))


def test_measurements_and_theories_say_what_they_are() -> None:
    nothing(mute(PACKAGE))


def test_violations_are_noticed(write_tree: WriteTree) -> None:
    good = "@dataclass(frozen=True, kw_only=True)\nclass HessianTrace:\n    pass\n"
    docstring = (
        '"""Trace.\n\nDefinition: its trace.\nUnit: nats.\nSource: none.\nCost: two.\n{}Says little when: odd.\n"""\n'
    )
    package = write_tree(
        {
            "measurements/curvature/hessian_trace.py": docstring.format("") + good,
            "measurements/fit/hessian_trace.py": docstring.format("  ") + good,  # indented: not a label
            "models/resnet20.py": "@dataclass\nclass Resnet20:\n    pass\n",
            "models/mlp.py": "@dataclass(frozen=True)\nclass MLP:\n    pass\n",
            "models/_private.py": "",
        }
    )
    assert misnamed(package) == ["models/mlp.py: no class Mlp", "models/resnet20.py: Resnet20 is no frozen dataclass"]
    assert repeated(package) == ["measurements: hessian_trace"]
    assert mute(package) == ["measurements/hessian_trace.py: no Says little when"]
