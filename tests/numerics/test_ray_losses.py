"""Losses along rays: what a loop over copies finds, stacked, in place or streamed, with no more work than needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, NUM_EXAMPLES, built, classes, held, mlp, random
from vallis.core.data import Stream
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.ray_losses import RayLosses
from vallis.numerics.rays import Frame, Parts, Rays
from vallis.numerics.surface import in_eval_mode

RAYS, STEPS = np.array([2, 0, 1, 2, 2]), np.array([0.3, 0.01, 1.0, 0.0, 0.7])


def directions(objective: Objective, count: int = 3) -> Parts:
    return Rays(Frame(objective.origin), Rng(0)).draw(0, count).directions


def by_hand(objective: Objective, along: Parts, rays: np.ndarray, steps: np.ndarray) -> list[float]:
    found = []
    for ray, step in zip(rays, steps, strict=True):
        parts = zip(objective.origin, along, strict=True)
        found.append(objective.value([v if d is None else v + float(step) * d[ray] for v, d in parts]))
    return found


@pytest.mark.parametrize("name", AWKWARD)
def test_losses_are_what_a_loop_over_copies_finds(name: str) -> None:
    objective = Objective(in_eval_mode(AWKWARD[name]()))
    along = directions(objective)
    found = RayLosses(objective).along(along, RAYS, STEPS)
    np.testing.assert_allclose(found, by_hand(objective, along, RAYS, STEPS), rtol=2e-5)


STACKED = {
    *("mlp", "dead_relu", "frozen", "regression", "binary", "one_parameter", "one_example", "tied", "tokens", "unused")
}


@pytest.mark.parametrize("name", AWKWARD)
def test_small_dense_networks_are_stacked_and_no_others(name: str) -> None:
    assert (RayLosses(Objective(in_eval_mode(AWKWARD[name]()))).group > 1) == (name in STACKED)


def test_stacked_and_in_place_agree_in_float64() -> None:
    objective = Objective(mlp(double=True))
    along = directions(objective)
    stacked, alone = RayLosses(objective), RayLosses(objective)
    alone.group = 1
    np.testing.assert_allclose(stacked.along(along, RAYS, STEPS), alone.along(along, RAYS, STEPS), rtol=1e-13)


class Jumpy(nn.Module):
    """What it does depends on its weights: no batch of weights can take the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out if float(self.layer.weight.sum()) > 0 else -out


class Mixing(nn.Module):
    """It reads the size of the whole batch of weights, if there is one, and computes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.layer.weight
        scale = 2.0 if torch._C._functorch.is_batchedtensor(weight) else 1.0
        return scale * torch.nn.functional.linear(x, weight, self.layer.bias)


@pytest.mark.parametrize("module", [Jumpy, Mixing])
def test_what_cannot_be_stacked_is_computed_in_place(module: type[nn.Module]) -> None:
    objective = Objective(held(built(module), random(NUM_EXAMPLES, 2), classes(NUM_EXAMPLES)))
    losses, along = RayLosses(objective), directions(objective)
    assert losses.group == 1
    np.testing.assert_allclose(losses.along(along, RAYS, STEPS), by_hand(objective, along, RAYS, STEPS), rtol=1e-5)


def test_a_stream_is_read_once_for_all_points() -> None:
    solution, passes = mlp(), []
    batches = [(batch.x, batch.y) for batch in solution.task.splits["train"]]

    def read() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        passes.append(1)
        return iter(batches)

    streamed = Objective(replace(solution, tasks=(replace(solution.task, splits={"train": Stream(read)}),)))
    along = directions(streamed)
    losses = RayLosses(streamed, ceiling=2.0)
    before = len(passes), float(streamed.total_weight)
    found = losses.along(along, RAYS, STEPS)
    assert len(passes) == before[0] + 2  # the first counts the targets
    np.testing.assert_allclose(found, by_hand(Objective(solution), along, RAYS, STEPS), rtol=1e-5)


class Counting(nn.Module):
    """Counts the examples that go through."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(2, 3, 1)  # not stacked
        self.num_seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_seen += len(x)
        out: torch.Tensor = self.layer(x[:, :, None])[:, :, 0]
        return out


def seen(loss: object, y: torch.Tensor, ceiling: float) -> tuple[float, int]:
    """The loss far away as it is found under a ceiling, and how many of forty examples were put through for it."""
    solution = held(built(Counting), random(40, 2), y, loss=loss, batch_size=4)  # type: ignore[arg-type]
    objective = Objective(solution)
    losses, along = RayLosses(objective, ceiling), directions(objective)
    objective.module.num_seen = 0  # type: ignore[assignment]
    (found,) = losses.along(along, np.array([0]), np.array([100.0]))
    return float(found), int(objective.module.num_seen)  # type: ignore[arg-type]


def test_a_point_is_given_up_once_it_is_above_the_ceiling_whatever_follows() -> None:
    y = classes(40)
    exact, everything = seen(CrossEntropy(), y, np.inf)
    assert everything == 40 and exact > 1
    below, some = seen(CrossEntropy(), y, exact / 4)
    assert some < 40 and exact / 4 < below <= exact
    assert seen(CrossEntropy(), y, 2 * exact) == (exact, 40)
    assert seen(SquaredError(), random(40, 3), 0.1)[1] < 40


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (OwnLoss(function=lambda outputs, y: nn.functional.cross_entropy(outputs, y)), classes(40)),
        (CrossEntropy(), random(40, 3)),
        (BinaryCrossEntropy(), 2 * random(40, 3)),
    ],
)
def test_nothing_is_given_up_where_a_later_example_could_lower_the_sum(loss: object, y: torch.Tensor) -> None:
    assert seen(loss, y, 1e-3)[1] == 40


def test_the_solution_and_its_gradients_are_left_alone() -> None:
    solution: Solution = mlp()
    before = {name: value.clone() for name, value in solution.params.items()}
    objective = Objective(solution)
    RayLosses(objective).along(directions(objective), RAYS, STEPS)
    assert all(torch.equal(solution.params[name], value) for name, value in before.items())
