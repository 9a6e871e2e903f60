"""Importing Vallis is cheap: what only lists, helps or names things never waits for torch."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("vallis")
MOST_SECONDS = 0.3
RUNS = 5


def torch_modules(*command: str) -> tuple[str, list[str]]:
    """What the command prints, and the modules of torch that it imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=False)
    timed = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line not in timed)
    names = [line.rpartition("|")[2].strip() for line in timed]
    return done.stdout, [name for name in names if name.partition(".")[0] == "torch"]


def test_the_probe_sees_torch() -> None:
    """The tests below would pass for ever if the probe were blind."""
    _, found = torch_modules("-c", "import torch.version")
    assert "torch" in found


def test_importing_vallis_does_not_import_torch() -> None:
    _, found = torch_modules("-c", "import vallis; print(vallis.__version__)")
    assert found == []


def test_listing_parts_does_not_import_torch() -> None:
    printed, found = torch_modules(str(COMMAND), "list", "--json")
    assert json.loads(printed), "the list is empty"
    assert found == []


def test_help_is_quick() -> None:
    """Its own processor time, all of it on an idle machine: the wall clock also counts the work of other tests."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "usage" in done.stdout.lower()
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(RUNS)) < MOST_SECONDS
