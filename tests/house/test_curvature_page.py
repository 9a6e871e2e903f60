"""The curvature page's Python runs as it stands."""

from __future__ import annotations

from pathlib import Path

from tests.house.pages import blocks, run


def test_its_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    parts = blocks("curvature.md")
    alone = [part for part in parts if not part.startswith("# torchrun")]
    assert len(alone) == len(parts) - 1 >= 5
    assert "True" in run(alone, tmp_path)


def test_the_script_for_several_processes_is_that_of_the_tests() -> None:
    """What it does is done with real processes in tests/numerics/test_distributed.py; here it must at least compile."""
    (script,) = (part for part in blocks("curvature.md") if part.startswith("# torchrun"))
    compile(script, "sharpness.py", "exec")
    assert "DataParallel.of(Hessian, model, nn.CrossEntropyLoss(), loader)" in script
