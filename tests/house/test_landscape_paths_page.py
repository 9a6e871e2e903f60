"""The page on boundaries, paths and minima: its Python runs as it stands, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.pages import blocks, run


def test_its_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    parts = blocks("landscape_paths.md")
    assert len(parts) == 8
    printed = run(parts, tmp_path)
    heights = {word: float(value) for word, value in re.findall(r"^(\w+) Estimate\(value=([\d.e-]+)", printed, re.M)}
    assert heights["straight"] > heights["curve"]
    assert heights["straight"] > heights["aligned"]
    assert "True" in printed.splitlines()
    assert "path 21 others 3" in printed.splitlines()
    end, others = re.findall(r"^([\d.]+) Estimate\(value=([\d.]+)", printed, re.M)[0]
    assert float(end) > float(others) + 0.2, "minima that were left from the path are bad"
