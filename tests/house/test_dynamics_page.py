"""The page on example dynamics: its Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.pages import blocks, run


def test_its_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    parts = blocks("dynamics.md")
    assert len(parts) == 6
    printed = run(parts, tmp_path)
    (share,) = re.findall(r"noisy among the suspects: (\S+)", printed)
    assert float(share) > 0.7
    (wrong,) = re.findall(r"wrong labels: (\S+)", printed)
    assert float(wrong) == pytest.approx(0.27, abs=0.05)
    assert (tmp_path / "dynamics.safetensors").is_file()
