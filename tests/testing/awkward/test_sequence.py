"""Two tasks in sequence: one net, two tasks, forgotten or not, and each measured by its name."""

from __future__ import annotations

import math

import torch

from vallis.core.objective import Objective
from vallis.core.types import Job, Solution
from vallis.run.train import train
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent

STEPS = 80
# The second task asks the opposite of the first.
PROBLEM = Blobs(angles=(0.0, math.pi), distance=6.0)
TRAINING = GradientDescent(learning_rate=0.3, momentum=0.9, batch_size=16, max_steps=STEPS)


def loss(solution: Solution, task: str) -> float:
    return Objective(solution.on(task), "test").value()


def test_the_second_task_is_learned_and_the_first_forgotten() -> None:
    job = Job(problem=PROBLEM, model=TinyMlp(), training=TRAINING, snapshots=(0, STEPS))
    start, between, end = train(job)
    assert [solution.step for solution in (start, between, end)] == [0, STEPS, 2 * STEPS]
    assert loss(between, "blobs_0") < 0.1 < loss(start, "blobs_0")
    assert loss(end, "blobs_1") < 0.1 < loss(between, "blobs_1")
    assert loss(end, "blobs_0") > 1.0
    assert end.task.name == "blobs_0"
    assert all(torch.isfinite(value).all() for value in end.params.values())
