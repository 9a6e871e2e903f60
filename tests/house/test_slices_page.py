"""The page on slices: its Python runs as it stands."""

from __future__ import annotations

from pathlib import Path

from tests.house.pages import blocks, run


def test_its_block_runs(tmp_path: Path) -> None:
    (part,) = blocks("slices.md")
    first, second = run([part], tmp_path).splitlines()
    assert first.startswith("(49, 49)")
    assert first.endswith(" 0.0")
    assert 49 <= int(first.split()[2]) <= 208
    assert second.startswith("[")
