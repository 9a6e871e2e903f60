"""The page on example dynamics: its Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.pages import blocks, run


def test_its_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    parts = blocks("dynamics.md")
    assert len(parts) == 5
    (share,) = re.findall(r"noisy among the suspects: (\S+)", run(parts, tmp_path))
    assert float(share) > 0.7
    assert (tmp_path / "dynamics.safetensors").is_file()
