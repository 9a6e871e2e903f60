"""Does what a plan lacks, here or in several processes, and gathers the rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass

from vallis.core.errors import UsageError
from vallis.core.progress import bar
from vallis.core.types import Failed, Job, NotApplicable, Note, Outcome, Row
from vallis.run.board import Board
from vallis.run.codec import decode
from vallis.run.plan import Asked, Plan, missing, plan
from vallis.run.processes import pooled
from vallis.run.solutions import CHECKPOINT_SECONDS
from vallis.run.store import Store
from vallis.run.work import Report, Unit, perform, units


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after everything finished was kept; the message says how much that is."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What came of some jobs.

    Attributes:
        rows: one a job and measurement, in their order.
        troubles: the reports of trainings that failed, by digest.
        num_made: how many nodes were missing and are now in the store; `num_kept` were there before.
    """

    plan: Plan
    rows: tuple[Row, ...]
    troubles: Mapping[str, Report]
    num_made: int
    num_kept: int

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows of what failed."""
        return tuple(row for row in self.rows if isinstance(row.outcome, Failed))


def execute(
    jobs: Iterable[Job],
    store: Store,
    *,
    workers: int = 1,
    threads: int = 1,
    every: float = CHECKPOINT_SECONDS,
    say: Callable[[str], None] | None = None,
) -> Execution:
    """Trains and measures what the jobs ask for and the store lacks.

    What fails is a row too, and is tried again the next time; everything else is done once. The results do not depend
    on `workers`.

    Args:
        jobs: what to train and what to measure on it.
        store: where results are kept and looked for.
        workers: how many processes share the work.
        threads: how many threads torch computes with in each; the last bits of the results depend on it.
        every: seconds between two checkpoints of a training.
        say: is told what was done, a line a unit.

    Raises:
        Interrupted: Ctrl-C; what was finished is kept.
        UsageError: there are no workers or threads, or several workers are to share what only this process sees.
        OutputError: the store cannot be written.
    """
    if min(workers, threads) < 1:
        raise UsageError(f"at least one worker and one thread were required, {workers} and {threads} came: give more")
    if workers > 1 and not store.shared:
        raise UsageError(f"a store on disk was required for several workers, {store.url} came: choose another")
    wanted = plan(jobs)
    lacking = missing(wanted, store)
    board = Board(list(units(lacking, wanted, workers)))
    _run(board, store, workers, threads, every, say)
    rows = [_row(asked, wanted, board, store) for asked in wanted.asked]
    num_missing = len(lacking.measurements) + len(lacking.trainings) + len(lacking.watched)
    num_wanted = len(wanted.measurements) + len(wanted.trainings) + len(wanted.watched)
    return Execution(
        plan=wanted,
        rows=tuple(rows),
        troubles=board.troubles,
        num_made=sum(store.has(name) for name in (*lacking.measurements, *lacking.trainings, *lacking.watched)),
        num_kept=num_wanted - num_missing,
    )


def _run(
    board: Board, store: Store, workers: int, threads: int, every: float, say: Callable[[str], None] | None
) -> None:
    total = len(board.waiting)
    if workers == 1:
        reports = _serial(board, store, threads, every)
    else:
        reports = pooled(board, store.url, workers, threads, every)
    try:
        with contextlib.closing(reports), bar("pieces of work", total) as moving:
            for unit, report in reports:
                board.settle(report)
                moving.update(board.num_done - moving.n)
                if say is not None:
                    say(_line(unit, report))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped: {board.num_done} of {total} pieces of work are finished and kept in {store.url}; "
            "run the same command again to go on"
        ) from error


def _serial(board: Board, store: Store, threads: int, every: float) -> Generator[tuple[Unit, Report]]:
    while (unit := board.take()) is not None:
        yield unit, perform(unit, store, threads=threads, every=every, quiet=False)


def _row(asked: Asked, wanted: Plan, board: Board, store: Store) -> Row:
    return Row(
        tags=asked.tags, seed=asked.seed, measurement=asked.measurement, outcome=_outcome(asked, wanted, board, store)
    )


def _outcome(asked: Asked, wanted: Plan, board: Board, store: Store) -> Outcome:
    """What answers a row. It is read back from the store even when it was just made, so that both are the same bits."""
    if asked.node is None:
        text = f"{asked.measurement} takes a pair of solutions, and the job names no partner."
        return NotApplicable(note=Note(code="needs_pair", text=text))
    if asked.node in board.failed:
        return board.failed[asked.node]
    record = store.sound(asked.node)
    if record is not None:
        return decode(record.values, record.tensors)
    watched = wanted.watched.get(asked.node)
    trainings = [watched.digest] if watched is not None else wanted.measurements[asked.node].trainings
    for name in trainings:
        trouble = board.troubles[name].trouble if name in board.troubles else None
        if trouble is not None:
            return Failed(error=trouble.error, message=f"the training failed: {trouble.message}")
    return Failed(error="StoreError", message=f"its record was in {store.url} and is gone: run again to remake it")


def _line(unit: Unit, report: Report) -> str:
    if report.trouble is not None:
        return f"{unit.label}: failed, {report.trouble.error}: {report.trouble.message}"
    lost = [f"{failure.error}: {failure.message}" for failure in report.failed.values()]
    return f"{unit.label}: {'; '.join(['done' if not lost else 'failed', *lost])}"
