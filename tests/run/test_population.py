"""Trainings together against each alone: the same records in the store, whoever goes with whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run import toy
from vallis.core.types import Job
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.models.mlp import Mlp
from vallis.problems.corrupted import Corrupted
from vallis.run import population, work
from vallis.run.execute import execute
from vallis.run.plan import plan
from vallis.run.population import train_all
from vallis.run.store import Store
from vallis.run.train import train
from vallis.run.work import units
from vallis.testing.awkward.forgetting_counts import ForgettingCounts
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent

TRAINING = GradientDescent(learning_rate=0.1, momentum=0.9, batch_size=8, max_steps=30, stop_train_accuracy=1.0)


def job(seed: int, **changes: Any) -> Job:
    parts: dict[str, Any] = {"problem": Blobs(), "model": Mlp(widths=(9,)), "training": TRAINING}
    return Job(seed=seed, snapshots=(0, 3, 10), measurements=(GeneralizationGap(),), **{**parts, **changes})


JOBS = [
    *(job(seed) for seed in range(4)),
    *(job(seed, problem=Corrupted(base=Blobs(), labels=0.5)) for seed in range(2)),
    job(0, training=replace(TRAINING, learning_rate=0.01, weight_decay=0.1)),
    job(0, model=Mlp(widths=(8,))),
    job(0, training=replace(TRAINING, max_steps=4)),
    replace(job(0, training=replace(TRAINING, max_steps=0)), snapshots=()),
    Job(problem=toy.Clouds(), model=toy.Linear(), training=toy.Descent(), seed=0),
]


def records(store: Store) -> dict[str, Any]:
    """Everything that a store holds."""
    found = {}
    for name in store.digests():
        record = store.find(name)
        assert record is not None
        tensors = {key: value.numpy().tobytes() for key, value in record.tensors.items()}
        found[name] = (record.kind, repr(sorted(record.values.items())), sorted(tensors.items()))
    return found


def test_train_all_gives_what_each_would_give_alone() -> None:
    for found, wanted in zip(train_all(JOBS), [train(job) for job in JOBS], strict=True):
        assert [solution.step for solution in found] == [solution.step for solution in wanted]
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.origin == theirs.origin
            assert all(torch.equal(ours.params[name], theirs.params[name]) for name in theirs.params)


def test_a_store_holds_the_same_bits_whoever_went_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = [replace(job, measurements=(*job.measurements, ForgettingCounts())) for job in JOBS]
    together, alone = Store(str(tmp_path / "together")), Store(str(tmp_path / "alone"))
    monkeypatch.setattr(work, "_SHARES", 1)
    assert len(units(plan(watched), plan(watched))) < 2 * len(watched)
    assert not execute(watched, together).failures
    monkeypatch.setattr(work, "MOST_TOGETHER", 1)
    assert not execute(watched, alone).failures
    assert records(together) == records(alone)


def test_some_were_trained_before(tmp_path: Path) -> None:
    store, fresh = Store(str(tmp_path / "store")), Store(str(tmp_path / "fresh"))
    execute(JOBS[2:5], store)
    execute(JOBS, store)
    execute(JOBS, fresh)
    assert records(store) == records(fresh)


def test_units_hold_companies_and_every_worker_has_some() -> None:
    many, jobs = [job(seed) for seed in range(80)], [job(seed) for seed in range(40)]
    sizes = [len(unit.train) for unit in units(plan(many), plan(many)) if unit.train]
    assert sizes == [32, 32, 16]
    sizes = [len(unit.train) for unit in units(plan(jobs), plan(jobs), workers=5) if unit.train]
    assert sizes == [4] * 10
    mixed = [job(seed, model=Mlp(widths=(width,))) for seed in range(8) for width in (8, 9)]
    for unit in units(plan(mixed), plan(mixed)):
        assert len({node.model for node in unit.train}) <= 1


def test_one_that_fails_takes_nobody_along(tmp_path: Path) -> None:
    # An accuracy is asked for where nothing is classified: found out in the middle of the training.
    failing = job(9, problem=Blobs(), training=replace(TRAINING, augmentation="flip"))
    jobs = [job(0), failing, job(1)]
    done = execute(jobs, Store(str(tmp_path / "store")))
    assert [row.seed for row in done.failures] == [9]
    assert [report.trouble.error for report in done.troubles.values() if report.trouble] == ["SettingsError"]
    alone = execute([jobs[0], jobs[2]], Store(str(tmp_path / "alone")))
    assert [row.outcome for row in done.rows if row.seed != 9] == [row.outcome for row in alone.rows]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    together = population._follow

    def counting(places: Any, quiet: bool) -> Any:
        held.append(len(places))
        return together(places, quiet)

    monkeypatch.setattr(population, "_follow", counting)
    monkeypatch.setattr(population, "MOST_BYTES", 1)
    train_all([job(seed) for seed in range(3)])
    assert held == [1, 1, 1]
