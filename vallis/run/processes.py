"""Shares units among processes of this machine. They die with the one that started them, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

from vallis.core.types import Failed
from vallis.run.board import Board
from vallis.run.store import Store
from vallis.run.work import Report, Unit, perform

_Running = dict["Future[Report]", Unit]
_STRIKES = 2


def pooled(board: Board, url: str, workers: int, threads: int, every: float) -> Generator[tuple[Unit, Report]]:
    """Does all units of the board in `workers` processes, and yields each as it is done.

    A worker that dies (killed for its memory, say) takes what ran beside it down; that is begun again once, and fails
    if it happens twice.

    Raises:
        OutputError: the store cannot be written.
    """
    strikes: dict[str, int] = {}
    again: list[Unit] = []
    while board.waiting or again:  # each pool lives until it is done or broken
        lost: list[Unit] = []
        yield from _pool(board, again, lost, url, workers, threads, every)
        for unit in lost:
            strikes[unit.name] = strikes.get(unit.name, 0) + 1
            if strikes[unit.name] < _STRIKES:
                again.append(unit)
            else:
                yield unit, _died(unit)


def _pool(
    board: Board, first: list[Unit], lost: list[Unit], url: str, workers: int, threads: int, every: float
) -> Generator[tuple[Unit, Report]]:
    """One pool; it begins with those `first`, and what ran in it when it broke is added to `lost`."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    running: _Running = {}
    whole = False
    try:
        while True:
            while len(running) < workers and (unit := first.pop() if first else board.take()) is not None:
                with _without_interrupts():
                    running[pool.submit(_perform, unit, url, threads, every)] = unit
            if not running:
                break
            done = wait(running, return_when=FIRST_COMPLETED).done
            # What came through is told first: a pool that breaks must not take it along.
            for future in sorted(done, key=lambda future: future.exception() is not None):
                yield running[future], future.result()
                del running[future]
        whole = True
    except BrokenProcessPool:
        lost.extend(running.values())
    finally:
        if not whole:
            _end(set(multiprocessing.active_children()) - before)
        pool.shutdown(wait=True, cancel_futures=True)


def _perform(unit: Unit, url: str, threads: int, every: float) -> Report:
    return perform(unit, Store(url), threads=threads, every=every)


def _begin() -> None:
    """In a worker: Ctrl-C is the business of the parent, and life without a parent has no purpose."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_after, args=(parent,), daemon=True).start()


def _die_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # whatever it was doing is redone: nothing is ever half-written


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Holds Ctrl-C back while a process is started, which inherits the mask and so is deaf to it from the start."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: set[BaseProcess]) -> None:
    for worker in workers:
        worker.terminate()


def _died(unit: Unit) -> Report:
    message = (
        "the process that worked on it died twice: use fewer workers if memory is short, and in a script of your own "
        'begin only under if __name__ == "__main__"'
    )
    failure = Failed(error="WorkerDied", message=message)
    if unit.train is not None:
        return Report(unit=unit.name, trouble=failure)
    return Report(unit=unit.name, failed={node.digest: failure for node in unit.measure})
