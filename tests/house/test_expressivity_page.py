"""The expressivity page's Python runs as it stands, and every comparison that it prints comes out true."""

from __future__ import annotations

from pathlib import Path

from tests.house.pages import blocks, run


def test_its_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    parts = blocks("expressivity.md")
    assert len(parts) == 4
    printed = run(parts, tmp_path)
    assert "False" not in printed
    assert printed.count("True") == 6
