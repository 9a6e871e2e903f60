from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.runs import begin, ground
from vallis.testing.toys.problems import Blobs
from vallis.training._schedules import factor
from vallis.training.gradient_descent import GradientDescent

STEPS = 24  # of 3 an epoch: 48 examples in batches of 16


def rates(training: GradientDescent, problem: Blobs | None = None) -> list[float]:
    """The learning rate with which each step was made."""
    net, tasks = ground(problem)
    state = begin(training, net, tasks)
    found: list[float] = []
    while not state.done:
        used = state.optimizer
        training.step(state)
        found.append(used.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(
    ("settings", "make", "every"),
    [
        ({"schedule": "cosine"}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS), 1),
        ({"schedule": "exponential", "decay": 0.95}, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.95), 3),
        (
            {"schedule": "step", "decay": 0.2, "milestones": (2, 5)},
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], 0.2),
            3,
        ),
        ({}, lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0), 1),
    ],
)
def test_the_rates_are_those_of_torch(settings: dict[str, Any], make: Any, every: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler, expected = make(optimizer), []
    for step in range(1, STEPS + 1):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    found = rates(GradientDescent(learning_rate=0.3, batch_size=16, max_steps=STEPS, **settings))
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_every_task_begins_anew() -> None:
    training = GradientDescent(learning_rate=0.3, batch_size=16, max_steps=9, schedule="exponential", decay=0.5)
    found = rates(training, Blobs(angles=(0.0, 1.0)))
    assert found == pytest.approx(2 * [0.3, 0.3, 0.3, 0.15, 0.15, 0.15, 0.075, 0.075, 0.075])


def test_closed_forms() -> None:
    def at(schedule: str, epoch: int = 0, progress: float = 0.0) -> float:
        return factor(schedule, epoch=epoch, progress=progress, decay=0.95, milestones=(3, 4))

    assert at("exponential", epoch=10) == 0.95**10
    assert [at("step", epoch=epoch) for epoch in (2, 3, 4, 9)] == [1.0, 0.95, 0.95**2, 0.95**2]
    assert [at("cosine", progress=p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])
    assert at("constant", epoch=7, progress=0.7) == 1.0
