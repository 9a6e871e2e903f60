"""Does what a plan lacks, here or in several processes, and gathers the rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

from vallis.core.errors import UsageError
from vallis.core.types import Failed, Job, NotApplicable, Note, Outcome, Row
from vallis.run.board import Board
from vallis.run.cluster import clustered
from vallis.run.codec import decode
from vallis.run.plan import Asked, Plan, missing, plan
from vallis.run.scheduler import Workplace, existing, own
from vallis.run.solutions import CHECKPOINT_SECONDS
from vallis.run.store import Store
from vallis.run.ticking import ticking
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
    scheduler: str | None = None,
    threads: int = 1,
    every: float = CHECKPOINT_SECONDS,
    say: Callable[[str], None] | None = None,
) -> Execution:
    """Trains and measures what the jobs ask for and the store lacks.

    What fails is a row too, and is tried again the next time; everything else is done once. The results do not depend
    on who does the work.

    Args:
        jobs: what to train and what to measure on it.
        store: where results are kept and looked for.
        workers: how many processes of this machine share the work; one is this process itself.
        scheduler: the address of a dask scheduler whose workers do the work instead.
        threads: how many threads torch computes with in each; the last bits of the results depend on it.
        every: seconds between two checkpoints of a training.
        say: is told what was done, a line a unit.

    Raises:
        Interrupted: Ctrl-C; what was finished is kept.
        UsageError: there are no workers or threads, no scheduler answers, workers are to share what only this process
            sees, or cannot import what this process can.
        VallisError: the workers could not be started, or the scheduler is gone; what was finished is kept.
        OutputError: the store cannot be written.
    """
    for what, number in (("worker", workers), ("thread", threads)):
        if number < 1:
            raise UsageError(f"at least one {what} was required, {number} came: give more")
    if workers > 1 and scheduler is not None:
        raise UsageError(f"workers or a scheduler were required, {workers} and {scheduler} came: leave one out")
    if (workers > 1 or scheduler is not None) and not store.shared:
        raise UsageError(f"a store on disk was required for several workers, {store.url} came: choose another")
    wanted = plan(jobs)
    lacking = missing(wanted, store)
    num_missing = len(lacking.measurements) + len(lacking.trainings) + len(lacking.watched)
    board = Board([])
    with _workplace(workers if num_missing else 1, scheduler if num_missing else None, threads) as place:
        board = Board(list(units(lacking, wanted, 1 if place is None else place.num_workers())))
        _run(board, store, place, threads, every, say)
    rows = [_row(asked, wanted, board, store) for asked in wanted.asked]
    num_wanted = len(wanted.measurements) + len(wanted.trainings) + len(wanted.watched)
    return Execution(
        plan=wanted,
        rows=tuple(rows),
        troubles=board.troubles,
        num_made=sum(store.has(name) for name in (*lacking.measurements, *lacking.trainings, *lacking.watched)),
        num_kept=num_wanted - num_missing,
    )


@contextlib.contextmanager
def _workplace(workers: int, scheduler: str | None, threads: int) -> Iterator[Workplace | None]:
    """Where the work is done; None is this process."""
    if scheduler is not None:
        with existing(scheduler) as place:
            yield place
    elif workers > 1:
        with own(workers, threads) as place:
            yield place
    else:
        yield None


def _run(
    board: Board,
    store: Store,
    place: Workplace | None,
    threads: int,
    every: float,
    say: Callable[[str], None] | None,
) -> None:
    total = len(board.waiting)
    try:
        with ticking("pieces of work", total) as moving, contextlib.ExitStack() as open_reports:
            if place is None:
                reports = _serial(board, store, threads, every, moving.set_postfix_str)
            else:
                reports = clustered(board, store, place, threads, every, moving.set_postfix_str)
            open_reports.enter_context(contextlib.closing(reports))
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


def _serial(
    board: Board, store: Store, threads: int, every: float, begun: Callable[[str, bool], None]
) -> Generator[tuple[Unit, Report]]:
    while (unit := board.take()) is not None:
        begun(unit.label, False)  # the bar says it when it is drawn next, and appears only on what takes long
        yield unit, perform(unit, store, threads=threads, every=every, quiet=False)


def _row(asked: Asked, wanted: Plan, board: Board, store: Store) -> Row:
    return Row(
        tags=asked.tags, seed=asked.seed, measurement=asked.measurement, outcome=_outcome(asked, wanted, board, store)
    )


def _outcome(asked: Asked, wanted: Plan, board: Board, store: Store) -> Outcome:
    """What answers a row. It is read back from the store even when it was just made, so that both are the same bits."""
    if asked.node is None:
        text = (
            f"{asked.measurement} takes a pair of solutions, and the job names no partner: give it one, in JSON as "
            '"partner": JOB, for vallis measure with --partner-seed.'
        )
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
    parts = (report, *report.beside)
    troubles = [f"{part.trouble.error}: {part.trouble.message}" for part in parts if part.trouble is not None]
    if troubles:
        some = "" if len(troubles) == len(parts) else f"{len(troubles)} of {len(parts)} "
        return f"{unit.label}: {some}failed, {'; '.join(dict.fromkeys(troubles))}"
    lost = [f"{failure.error}: {failure.message}" for part in parts for failure in part.failed.values()]
    return f"{unit.label}: {'; '.join(['done' if not lost else 'failed', *lost])}"
