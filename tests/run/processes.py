"""Processes to look at, to wait for and to kill; a scheduler of dask with workers that are not our own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def children(pid: int) -> set[int]:
    """The processes below a process, from the kernel's own list."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    below = {int(word) for word in found.stdout.split()} - {pid}
    return below.union(*(children(child) for child in below))


def spawned(pid: int) -> set[int]:
    """Those below a process that do work, unlike the one that tracks what they share."""
    found = set()
    for child in children(pid):
        with contextlib.suppress(OSError):  # it was `ps`
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                found.add(child)
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that have not ended; whether somebody has taken note of it is another matter."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
    return found


def wait_for(true: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def count(folder: Path) -> int:
    return len(list(folder.glob("*"))) if folder.is_dir() else 0


@contextlib.contextmanager
def others(tmp_path: Path, num_workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler of somebody else, its address, and its processes: itself and its workers."""
    where = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(where)]
    head = ["scheduler", *common, "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    worker = ["worker", *common, "--nthreads", "2", "--local-directory", str(tmp_path), "--death-timeout", "60"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for words in [head, *[worker] * num_workers]:
            command = [sys.executable, "-m", "dask", *words]
            with (tmp_path / f"log{len(processes)}").open("wb") as log:
                folder = tmp_path / f"folder{len(processes)}"
                folder.mkdir()
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder))
            wait_for(where.exists)
        address = json.loads(where.read_text())["address"]
        yield address, processes
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
