from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run.toy import Beside, Broken, Count, Descent, Distance, Norm, Quiet, State, Stop, Way, job
from vallis.core.errors import UsageError
from vallis.core.rng import Rng
from vallis.core.types import Estimate, Failed, NotApplicable, Outcome, Result, Solution, StepInfo
from vallis.models.mlp import Mlp
from vallis.run.execute import Interrupted, _line, execute
from vallis.run.plan import plan
from vallis.run.store import Store
from vallis.run.train import train
from vallis.run.work import Unit, perform
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent

JOBS = [
    job(measurements=(Norm(), Way(), Count()), snapshots=(0, 2), tags={"a": 1}),
    job(measurements=(Norm(), Distance()), seed=1, partner=job()),
]


def test_rows_come_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    done = execute(JOBS, Store(tmp_path))
    assert [(dict(row.tags), row.seed, row.measurement.rpartition(":")[2]) for row in done.rows] == [
        ({"a": 1}, 0, "Norm"),
        ({"a": 1}, 0, "Way"),
        ({"a": 1}, 0, "Count"),
        ({}, 1, "Norm"),
        ({}, 1, "Distance"),
    ]
    assert all(isinstance(row.outcome, Result) for row in done.rows)
    assert (done.num_made, done.num_kept) == (7, 0)


def test_a_second_run_does_nothing_and_answers_the_same_bits(tmp_path: Path) -> None:
    first = execute(JOBS, Store(tmp_path))
    said: list[str] = []
    again = execute(JOBS, Store(tmp_path), say=said.append)
    assert said == []
    assert (again.num_made, again.num_kept) == (0, 7)
    assert repr(again.rows) == repr(first.rows)


def test_nothing_is_lost_when_a_training_fails(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    bad = job(training=Descent(fail_at=2, mended=str(mended)), measurements=(Norm(), Count()))
    pair = job(measurements=(Distance(),), partner=bad)
    store, said = Store(tmp_path / "store"), []
    done = execute([bad, job(), pair], store, say=said.append)
    failed = Failed(error="RuntimeError", message="the training failed: this step fails on purpose")
    assert [row.outcome for row in done.rows if row.measurement.endswith(("Count", "Distance"))] == [failed, failed]
    assert done.rows[0].outcome == failed
    assert isinstance(done.rows[2].outcome, Result)
    assert list(done.failures) == [row for row in done.rows if row.outcome == failed]
    assert any("failed, RuntimeError: this step fails on purpose" in line for line in said)

    mended.touch()
    again = execute([bad, job(), pair], store)
    assert again.failures == ()


INFINITE = Result(values={"a": Estimate(value=math.nan, stderr=math.inf), "b": Estimate(value=-math.inf)})


@dataclass(frozen=True, kw_only=True)
class Infinite(Quiet):
    """Finds numbers that are none."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        return INFINITE


@dataclass(frozen=True, kw_only=True)
class SeenInfinite(Count):
    """Sees them while it watches."""

    def conclude(self, memory: Mapping[str, Any]) -> Outcome:
        return INFINITE


def test_numbers_that_are_not_finite_are_results(tmp_path: Path) -> None:
    done = execute([job(measurements=(Infinite(), SeenInfinite()))], Store(tmp_path))
    assert [repr(row.outcome) for row in done.rows] == [repr(INFINITE)] * 2
    assert not done.troubles


def test_of_a_company_it_is_said_how_many_failed(tmp_path: Path) -> None:
    """It said "done" where the first of them had not failed."""
    training = GradientDescent(batch_size=8, max_steps=2)
    bad = replace(training, augmentation="flip")  # of what are no pictures
    jobs = [job(problem=Blobs(), model=Mlp(widths=(3,)), training=part, seed=1) for part in (training, bad)]
    nodes = tuple(plan(jobs).trainings.values())
    unit = Unit(name=nodes[0].digest, train=nodes)
    assert "and 1 more: 1 of 2 failed, SettingsError: inputs" in _line(unit, perform(unit, Store(tmp_path)))


def test_a_failed_measurement_is_shown_and_tried_again(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    jobs = [job(measurements=(Broken(mended=str(mended)), Norm()))]
    store = Store(tmp_path / "store")
    done = execute(jobs, store)
    assert [type(row.outcome) for row in done.rows] == [Failed, Result]
    assert (done.num_made, done.num_kept) == (2, 0)
    mended.touch()
    again = execute(jobs, store)
    assert [type(row.outcome) for row in again.rows] == [Result, Result]
    assert (again.num_made, again.num_kept) == (1, 2)


@dataclass(frozen=True, kw_only=True)
class Exits(Quiet):
    """Ends Python, as a library may that was written for a command line."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        raise SystemExit(0)


@dataclass(frozen=True, kw_only=True)
class SeenToExit(Count):
    """The same while it watches."""

    def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
        raise SystemExit(0)


@dataclass(frozen=True, kw_only=True)
class Leaves(Descent):
    """The same while it trains."""

    def step(self, state: State) -> StepInfo:
        raise SystemExit(0)


def test_a_part_that_ends_python_fails_alone(tmp_path: Path) -> None:
    """Everything would have ended without a word, and with the exit code that says that all is well."""
    jobs = [job(measurements=(Exits(), SeenToExit(), Norm())), job(training=Leaves()), job(seed=1)]
    done = execute(jobs, Store(tmp_path))
    assert [getattr(row.outcome, "error", "") for row in done.rows] == [
        "SystemExit",
        "SystemExit",
        "",
        "SystemExit",
        "",
    ]
    assert len(done.troubles) == 1


def test_a_training_that_was_refused_says_so(tmp_path: Path) -> None:
    class Picky(Descent):
        def init(self, *_: object) -> object:  # type: ignore[override]
            raise UsageError("not these")

    done = execute([job(training=Picky())], Store(tmp_path))
    assert [report.refused for report in done.troubles.values()] == [True]


def test_the_ends_of_others_stand_behind_a_path(tmp_path: Path) -> None:
    others = (job(seed=1), job(training=Descent(learning_rate=0.2)))
    wanted = job(measurements=(Beside(), Way()), snapshots=(0, 2), others=others)
    among, alone = execute([wanted], Store(tmp_path)).rows
    assert isinstance(among.outcome, Result) and isinstance(alone.outcome, Result)
    norms, path = among.outcome.array("norm").data, alone.outcome.array("norm").data
    assert len(path) == 3 and norms[:3].tolist() == path.tolist()
    ends = [train(other)[-1].params["weight"].norm() for other in others]
    assert norms[3:].tolist() == [float(end) for end in ends]


def test_one_of_the_others_that_fails_fails_the_picture_alone(tmp_path: Path) -> None:
    bad = job(seed=1, training=Descent(fail_at=2))
    among, alone = execute([job(measurements=(Beside(), Way()), others=(bad,))], Store(tmp_path)).rows
    assert isinstance(among.outcome, Failed) and "the training failed" in among.outcome.message
    assert isinstance(alone.outcome, Result)


def test_a_pair_without_a_partner_is_not_applicable(tmp_path: Path) -> None:
    (row,) = execute([job(measurements=(Distance(),))], Store(tmp_path)).rows
    assert isinstance(row.outcome, NotApplicable)
    assert row.outcome.note.code == "needs_pair"
    assert "--partner-seed" in row.outcome.note.text


def test_snapshots_that_the_training_did_not_reach_are_told_of(tmp_path: Path) -> None:
    (row,) = execute([job(measurements=(Way(),), snapshots=(2, 5, 7, 9))], Store(tmp_path)).rows
    assert isinstance(row.outcome, Result)
    assert row.outcome.array("norm").coords["step"].tolist() == [2, 5]
    (note,) = [note for note in row.outcome.notes if note.code == "snapshots_not_reached"]
    assert "before step 7, 9," in note.text


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(Interrupted, match=r"3 of 4 pieces of work are finished .* same command again") as caught:
        execute([job(), job(seed=1, measurements=(Stop(),))], store, workers=1)
    assert isinstance(caught.value, KeyboardInterrupt)
    said: list[str] = []
    execute([job(), job(seed=1)], store, say=said.append)
    assert len(said) == 1, "one measurement; both trainings are there"


def test_results_do_not_depend_on_the_number_of_threads_of_the_caller(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(repr(execute(JOBS, Store(tmp_path / str(threads))).rows))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_a_store_in_memory_does_for_one_worker_only() -> None:
    store = Store("memory://test_execute")
    assert isinstance(execute([job()], store).rows[0].outcome, Result)
    with pytest.raises(UsageError, match="a store on disk"):
        execute([job()], store, workers=2)
    with pytest.raises(UsageError, match="at least one worker"):
        execute([job()], store, workers=0)


def test_nothing_to_do_is_done(tmp_path: Path) -> None:
    assert execute([], Store(tmp_path)).rows == ()
