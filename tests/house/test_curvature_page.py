"""The curvature page's Python runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/curvature.md"


def test_its_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    alone = [block for block in blocks if not block.startswith("# torchrun")]
    assert len(alone) == len(blocks) - 1 >= 5
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(alone)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "True" in done.stdout


def test_the_script_for_several_processes_is_that_of_the_tests() -> None:
    """What it does is done with real processes in tests/numerics/test_distributed.py; here it must at least compile."""
    (script,) = re.findall(r"```python\n(# torchrun.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    compile(script, "sharpness.py", "exec")
    assert "DataParallel.of(Hessian, model, nn.CrossEntropyLoss(), loader)" in script
