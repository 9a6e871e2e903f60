"""The memory that a contender's product takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import memory
from benchmarks.contest import Benchmark, Contender
from benchmarks.fixtures import ROOT, Setting, trained

_TIMEOUT = 120


def measured(benchmark: Benchmark, setting: Setting, contender: Contender) -> float | None:
    """MiB at the peak above what was resident before; None where the system does not tell."""
    command = [sys.executable, "-m", "benchmarks", "peak", benchmark.id, setting.fixture, str(setting.batch_size)]
    try:
        done = subprocess.run(
            [*command, contender.name], cwd=ROOT, check=True, capture_output=True, text=True, timeout=_TIMEOUT
        )
        return float(done.stdout.split()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError):
        return None


def rise(setting: Setting, contender: Contender) -> float:
    """MiB by which memory rises while the operator is built and two products are made, in this process."""
    trained(setting.fixture)
    setting.batches()
    _warm(contender)
    before = memory.resident()
    memory.restart()
    run = contender.prepare(setting)
    run()
    run()
    return memory.peak() - before


def _warm(contender: Contender) -> None:
    """Imports and the allocator's own needs are nobody's: a run on the small network pays for them."""
    contender.prepare(Setting("D-MLP-32", 64))()
