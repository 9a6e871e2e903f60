"""The page on the landscape: its Python runs as it stands, and its numbers are those of a basin."""

from __future__ import annotations

from pathlib import Path

from tests.house.pages import blocks, run


def test_its_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    parts = blocks("landscape.md")
    assert len(parts) >= 3
    lines = run(parts[:3], tmp_path).splitlines()
    size, mean, median, largest = map(float, lines[0].split())
    assert size == 96 and 0 < median < largest <= 1 and 0 < mean < largest
    plain, fitted = (line.split() for line in lines[2:4])
    assert float(fitted[1]) > float(plain[1]), "rays of the ellipsoid have the larger lower bound"
