from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.run.toy import Broken, Count, Descent, Distance, Norm, Quiet, Way, job
from vallis.core.rng import Rng
from vallis.core.types import Failed, Outcome, Result, Solution
from vallis.run.execute import execute
from vallis.run.store import Store

ROOT = Path(__file__).resolve().parents[2]
JOBS = [
    job(measurements=(Norm(), Way(), Count()), snapshots=(0, 2)),
    job(measurements=(Norm(), Distance()), seed=1, partner=job()),
    job(measurements=(Norm(), Broken()), seed=2),
    job(training=Descent(fail_at=1)),
]


def files(folder: Path) -> Mapping[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@dataclass(frozen=True, kw_only=True)
class Suicide(Quiet):
    """Kills the process that measures, as often as `times`."""

    folder: str
    times: int

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        died = len(list(Path(self.folder).iterdir()))
        if died < self.times:
            (Path(self.folder) / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Result(values={})


def test_two_workers_make_the_same_bits_as_one(tmp_path: Path) -> None:
    found = [execute(JOBS, Store(tmp_path / str(workers)), workers=workers) for workers in (1, 2)]
    assert repr(found[0].rows) == repr(found[1].rows)
    assert [type(row.outcome) for row in found[0].rows].count(Failed) == 2
    assert files(tmp_path / "1") == files(tmp_path / "2")


@pytest.mark.parametrize(("times", "kind"), [(1, Result), (2, Failed)])
def test_a_worker_that_dies_is_replaced_once(tmp_path: Path, times: int, kind: Any) -> None:
    counter = tmp_path / "counter"
    counter.mkdir()
    jobs = [job(measurements=(Suicide(folder=str(counter), times=times), Norm())), job(seed=1)]
    done = execute(jobs, Store(tmp_path / "store"), workers=3)
    outcomes = {row.measurement.rpartition(":")[2]: row.outcome for row in done.rows if row.seed == 0}
    assert isinstance(outcomes["Suicide"], kind)
    if isinstance(outcomes["Suicide"], Failed):
        assert outcomes["Suicide"].error == "WorkerDied"


SCRIPT = """
import sys
from tests.run.toy import Descent, Slow, job
from vallis.run.execute import execute
from vallis.run.store import Store

if __name__ == "__main__":
    jobs = [job(seed=s, training=Descent(max_steps=4000, seconds=0.01)) for s in range(2)]
    execute(jobs, Store(sys.argv[1]), workers=2, every=0.0)
"""


def children(pid: int) -> set[int]:
    """The processes below a process, from the kernel's own list."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    below = {int(word) for word in found.stdout.split()} - {pid}
    return below.union(*(children(child) for child in below))


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGKILL])
def test_workers_die_with_their_parent(tmp_path: Path, word: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "store"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        partial = tmp_path / "store" / "partial"
        deadline = time.monotonic() + 120
        while len(list(partial.glob("*")) if partial.is_dir() else []) < 2:  # both workers are in the middle of it
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        workers = children(process.pid)
        assert len(workers) >= 2
        if word is signal.SIGINT:
            os.killpg(process.pid, word)  # as the terminal does it: to parent and workers alike
        else:
            process.kill()
        _, said = process.communicate(timeout=30)
        deadline = time.monotonic() + 10
        while alive(workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alive(workers) == set()
        if word is signal.SIGINT:
            assert "run the same command again" in said.strip().splitlines()[-1]
            assert said.count("Traceback") <= 2, "only the parent speaks"
    finally:
        process.kill()
        process.wait()
