"""A small package on disk that breaks a rule on purpose: every house test is shown that it can fail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.house.source import WriteTree


@pytest.fixture
def write_tree(tmp_path: Path) -> WriteTree:
    """Writes ``{path: text}`` into a fresh folder ``vallis`` and returns that folder."""

    def write(files: Mapping[str, str]) -> Path:
        package = tmp_path / "vallis"
        for path, text in files.items():
            file = package / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return package

    return write
