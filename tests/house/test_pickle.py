"""No pickle anywhere: a file of weights must not be able to run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, WriteTree, modules, nothing, parse

PICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def complaint(node: ast.AST) -> str | None:
    """What is wrong with this node, if anything."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = getattr(node, "module", None)
        names = [module] if module else [alias.name for alias in node.names]
        used = {name.split(".")[0] for name in names} & PICKLERS
        return f"imports {used.pop()}" if used else None
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if function == "torch.load" and keywords.get("weights_only") != "True":
            return "torch.load without weights_only=True"
        if function == "torch.save":
            return "torch.save writes a pickle; weights are safetensors"
        if keywords.get("allow_pickle", "False") != "False":
            return "allow_pickle"
    return None


def unsafe(package: Path) -> list[str]:
    found = []
    for file in modules(package):
        for node in ast.walk(parse(file)):
            if said := complaint(node):
                found.append(f"{file.relative_to(package)}:{node.lineno}: {said}")
    return found


def test_no_pickle() -> None:
    nothing(unsafe(PACKAGE))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import cloudpickle as c",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.save(state, path)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_a_violation_is_noticed(write_tree: WriteTree, code: str) -> None:
    assert len(unsafe(write_tree({"run/store.py": code}))) == 1


def test_safe_code_passes(write_tree: WriteTree) -> None:
    code = "import json\ntorch.load(path, weights_only=True)\nnp.load(path, allow_pickle=False)"
    assert unsafe(write_tree({"run/store.py": code})) == []
