"""The minefield: all that leaves the path does so at a point that is drawn, with the network and data of the path."""

from __future__ import annotations

import pytest

from vallis.core.rng import Rng
from vallis.studies._minefield_cells import TAGS, minefield
from vallis.training.fine_tuning import FineTuning
from vallis.training.gradient_descent import GradientDescent


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_the_minefield_is_left_at_points_of_its_own_path(scale: str) -> None:
    job = minefield(scale, 3)
    good = job.training
    assert isinstance(good, GradientDescent) and good.poison_factor == 0
    assert (job.seed, job.tags) == (3, TAGS)
    for other in job.others:
        left = other.training
        assert isinstance(left, FineTuning) and isinstance(left.tuning, GradientDescent)
        assert (other.problem, other.model, other.seed, left.base) == (job.problem, job.model, job.seed, good)
        assert left.num_steps in job.snapshots and left.tuning.poison_factor != 0
    if scale != "smoke":
        assert len(job.others) >= 10 and len(job.others) + len(job.snapshots) + 1 >= 50
        assert max(job.snapshots) < good.max_steps and good.stop_train_loss is None
    (task,) = job.problem.build(Rng(0))
    assert [len(task.splits[name]) for name in ("train", "poison", "test")] == [132, 134, 134]


def test_the_paper_has_two_hundred_of_each() -> None:
    """Card 1.3.3: checkpoints in epochs 1, 11 ... 1991 of 2,000, five batches each; 2,051 weights."""
    job = minefield("paper", 0)
    assert len(job.snapshots) == len(job.others) == 200
    assert (job.snapshots[0], job.snapshots[1], job.snapshots[-1]) == (5, 55, 9955)
    tasks = job.problem.build(Rng(0))
    net = job.model.build(tasks, Rng(0))
    assert sum(value.numel() for value in net.module.parameters()) == 2051
