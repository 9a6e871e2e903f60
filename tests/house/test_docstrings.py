"""Every module, public class and public function says what it is."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.house.source import PACKAGE, WriteTree, modules, nothing, parse

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def undocumented(package: Path) -> list[str]:
    """What lacks a docstring. Methods are left out: a part's are described once, in the protocol that they fulfil."""
    found = []
    for file in modules(package):
        tree, path = parse(file), file.relative_to(package)
        # An empty __init__.py only marks a folder.
        nodes: list[Documented] = [tree] if tree.body else []
        nodes += [node for node in tree.body if isinstance(node, Documented) and not node.name.startswith("_")]
        for node in nodes:
            if not ast.get_docstring(node):
                found.append(f"{path}: {getattr(node, 'name', 'the module')}")
    return found


def test_everything_public_has_a_docstring() -> None:
    nothing(undocumented(PACKAGE))


def test_violations_are_noticed(write_tree: WriteTree) -> None:
    package = write_tree(
        {
            "core/__init__.py": "",
            "core/fine.py": '"""Fine."""\ndef _private(): ...\ndef public():\n    """Says so."""\n',
            "core/mute.py": "class Thing: ...\ndef public(): ...\n",
        }
    )
    assert undocumented(package) == ["core/mute.py: the module", "core/mute.py: Thing", "core/mute.py: public"]
