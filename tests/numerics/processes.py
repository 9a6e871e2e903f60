"""Runs a function in real processes that form a group, and brings back what each of them found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing

Work = Callable[[int, int], Any]
SECONDS = 60


def in_processes(work: Work, num_ranks: int, folder: Path) -> list[Any]:
    """What ``work(rank, num_ranks)`` returned on each rank. A hang fails within a minute, and leaves no process."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = (work, num_ranks, str(folder))
    context = multiprocessing.start_processes(_enter, arguments, nprocs=num_ranks, join=False, start_method="spawn")
    assert context is not None
    stop = time.monotonic() + SECONDS
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < stop, f"{num_ranks} processes did not end within {SECONDS} s"
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
                process.join()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(num_ranks)]


def _enter(rank: int, work: Work, num_ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks)
    try:
        torch.save(work(rank, num_ranks), Path(folder) / f"{rank}.pt")
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
    # What was found is kept. It was seen once that a thread of gloo outlived this, and that the interpreter aborted at
    # its end ("terminate called without an active exception").
    os._exit(0)
