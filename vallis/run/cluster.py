"""Shares units among the workers of a dask scheduler, one unit a worker, and does again what was lost with a worker.

The order stays with the `Board`: it alone knows which units a failed training has made pointless. Dask is given as many
units as there are workers, never a graph.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy
import torch
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from tqdm import tqdm

from vallis import __version__
from vallis.core.errors import UsageError, VallisError
from vallis.run.board import Board
from vallis.run.folder import Folder
from vallis.run.scheduler import Workplace
from vallis.run.store import Store
from vallis.run.work import Report, Unit, died, perform, pieces, together

_TRIES = 2
_LOOK_SECONDS, _RETURN_SECONDS = 1.0, 120.0
_IDENTITY = "identity"
# A worker may have several threads, but the generators and the thread count of torch belong to the whole process.
_ALONE = threading.Lock()


@dataclass(eq=False)
class _Apart:
    """A unit that is done piece by piece, since whoever did it died: its reports so far, by the names of the pieces."""

    unit: Unit
    reports: dict[str, Report] = field(default_factory=dict)


@dataclass(frozen=True)
class _Try:
    """A unit that is being done, how often it died before, and what it is a piece of."""

    unit: Unit
    deaths: int = 0
    of: _Apart | None = None


@dataclass(frozen=True)
class _Order:
    """What a worker must know beside the unit; `identity` and `build` are asked of those of others alone."""

    url: str
    identity: str
    threads: int
    every: float
    build: str


def clustered(
    board: Board,
    store: Store,
    place: Workplace,
    threads: int,
    every: float,
    tell: Callable[[str, bool], object],
) -> Generator[tuple[Unit, Report]]:
    """Does all units of the board on the workers of a place, and yields each as it is done.

    A unit whose worker died, or that found no memory, is begun again once, and fails if it happens twice; a scheduler
    that is not ours may have tried more often before it says so. Of several things in a unit each is tried alone before
    it fails, so that one which ends its worker takes no other along.

    Args:
        board: the units.
        store: where results go; every worker must see it.
        place: the workers.
        threads: how many threads torch computes with.
        every: seconds between two checkpoints of a training.
        tell: is told how many are at work, as `tqdm.set_postfix_str` is.

    Raises:
        OutputError: the store cannot be written.
        UsageError: a worker does not see the store, has other versions, or cannot import what it needs.
        VallisError: the scheduler is gone, or no worker of ours is left.
    """
    order = _order(store, place, threads, every)
    running: dict[Any, _Try] = {}
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    again: list[_Try] = []
    seen = time.monotonic()
    try:
        while True:
            room = place.num_workers()
            seen = _seen(room, place, seen)
            while len(running) < room and (next_try := again.pop() if again else _taken(board)) is not None:
                future = _submitted(place, next_try.unit, order)
                running[future] = next_try
                future.add_done_callback(done.put)
            if not running and (room or not (again or board.waiting)):
                break
            tell(f"{len(running)} at work" if room else "waiting for a worker", False)
            try:
                future = done.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue  # workers may have come or gone
            tried = running.pop(future)
            came = _come_of(future, tried, place)
            if not isinstance(came, Report):
                again.extend(came)
            elif (whole := _whole(tried, came)) is not None:
                yield whole
    finally:
        if running:
            place.client.cancel(list(running), force=True)


def _seen(room: int, place: Workplace, before: float) -> float:
    """When there was a worker. Ours are started again when they die; for those of others one can only wait."""
    now = time.monotonic()
    if room:
        return now
    if place.ours and now - before > _RETURN_SECONDS:
        raise VallisError(
            f"at least one worker was required, all died and none came back within {_RETURN_SECONDS:.0f} s: what was "
            "finished is kept; use fewer workers and run the same command again to go on"
        )
    return before


def _taken(board: Board) -> _Try | None:
    unit = board.take()
    return None if unit is None else _Try(unit)


def _order(store: Store, place: Workplace, threads: int, every: float) -> _Order:
    filesystem, root = url_to_fs(store.url)
    url = root if isinstance(filesystem, LocalFileSystem) else store.url  # workers may stand in another folder
    return _Order(url, "" if place.ours else _identity(Folder(url)), threads, every, _build())


def _identity(folder: Folder) -> str:
    """What tells this store from any other, such as an empty folder of the same path on another machine."""
    if folder.read(_IDENTITY) is None:
        folder.replace(_IDENTITY, uuid.uuid4().hex.encode())
    return (folder.read(_IDENTITY) or b"").decode()


def _build() -> str:
    """What numbers are made with here: their last bits depend on it, and so may more."""
    return f"vallis {__version__}, torch {torch.__version__}, numpy {np.__version__}, scipy {scipy.__version__}"


def _submitted(place: Workplace, unit: Unit, order: _Order) -> Any:
    # The key is new each time: a shared scheduler would answer a known one with the work of somebody else.
    key = f"vallis-{unit.name[:16]}-{uuid.uuid4().hex}"
    return place.client.submit(_perform, unit, order, key=key, pure=False, retries=0)


def _perform(unit: Unit, order: _Order) -> Report:
    """In a worker."""
    # The lock that tqdm takes by default is one of processes, and is told of on the terminal when a worker is killed.
    tqdm.set_lock(threading.RLock())
    with _ALONE:
        if order.identity:
            _must_be_ready(order)
        return perform(unit, Store(order.url), threads=order.threads, every=order.every)


def _must_be_ready(order: _Order) -> None:
    """In a worker of somebody else.

    Raises:
        UsageError: it does not see the store, or would find other numbers.
    """
    import socket

    host = socket.gethostname()
    if Folder(order.url).read(_IDENTITY) != order.identity.encode():
        raise UsageError(
            f"a store that all workers see was required, the one on {host} does not see "
            f"{order.url}: give --store a folder that all machines share, or a URL"
        )
    if _build() != order.build:
        raise UsageError(
            f"workers with the versions of this process, {order.build}, were required, the one on {host} has "
            f"{_build()}: install the same there, or results would depend on who made them"
        )


def _whole(tried: _Try, report: Report) -> tuple[Unit, Report] | None:
    """What is done with this report: the unit, or that of which it was the last piece."""
    if tried.of is None:
        return tried.unit, report
    unit, reports = tried.of.unit, tried.of.reports
    reports[tried.unit.name] = report
    return (unit, together(unit, reports)) if len(reports) == len(pieces(unit)) else None


def _come_of(future: Any, tried: _Try, place: Workplace) -> Report | list[_Try]:
    """What came of a unit: its report, or other tries.

    Raises:
        VallisError: as `clustered`.
    """
    from distributed import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise place.lost()
    try:
        report: Report = future.result()
    except KilledWorker as error:
        deaths = tried.deaths + error.allowed_failures + 1
        if deaths < _TRIES:
            return [replace(tried, deaths=deaths)]
        if len(parts := pieces(tried.unit)) > 1:
            apart = _Apart(tried.unit)
            return [_Try(part, of=apart) for part in parts]
        message = (
            f"its worker died {deaths} times: {place.why(error.last_worker)}; use fewer workers if memory is short"
        )
        return died(tried.unit, message)
    except VallisError:
        raise
    except Exception as error:
        raise _unready(error, place) from error
    if _is_starved(report) and tried.deaths + 1 < _TRIES:
        return [replace(tried, deaths=tried.deaths + 1)]
    return report


def _is_starved(report: Report) -> bool:
    """Whether something found no memory: beside other units, perhaps, so that it may find some the next time."""
    parts = (report, *report.beside)
    failures = [failure for part in parts for failure in (*part.failed.values(), part.trouble) if failure is not None]
    return any(
        failure.error in ("MemoryError", "OutOfMemoryError") or "DefaultCPUAllocator" in failure.message
        for failure in failures
    )


def _unready(error: BaseException, place: Workplace) -> BaseException:
    """What to raise for an exception that no unit lets out: dask's own, of a worker that could not take the unit."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ImportError | AttributeError):
        cause = cause.__cause__
    if cause is None:
        return error
    return UsageError(
        f"a scheduler and workers that can import all that this process can were required, those of {place.url} cannot "
        f"({cause}): install there what is installed here, and your own modules"
    )
