"""Batch statistics: those of torch's own training pass over all examples, whatever the batches; nothing is touched."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.numerics.solutions import batch_norm, mlp
from vallis.core import tree
from vallis.core.objective import Objective
from vallis.core.types import Solution
from vallis.numerics.batch_statistics import BatchStatistics, at_own_statistics, normalises_alone, normalises_batches


def in_batches_of(solution: Solution, size: int) -> Solution:
    task = solution.task
    return replace(solution, tasks=(replace(task, splits={"train": task.splits["train"].in_batches_of(size)}),))  # type: ignore[attr-defined]


def test_they_are_those_of_a_training_pass() -> None:
    solution = batch_norm()
    module = copy.deepcopy(solution.net.module).train()
    module[1].momentum = 1.0
    module(solution.task.splits["train"].x)  # type: ignore[attr-defined]
    for size in (5, 17):
        objective = Objective(in_batches_of(solution, size))
        before = {name: value.clone() for name, value in objective.buffers.items()}
        found = BatchStatistics(objective).at(objective.origin)
        torch.testing.assert_close(found["1.running_mean"], module[1].running_mean)
        torch.testing.assert_close(found["1.running_var"], module[1].running_var)
        assert all(objective.buffers[name].equal(value) for name, value in before.items())
        assert not any(part.training for part in objective.module.modules())


def test_every_point_starts_from_nothing() -> None:
    objective = Objective(batch_norm())
    statistics = BatchStatistics(objective)
    first = {name: value.clone() for name, value in statistics.at(objective.origin).items()}
    moved = [value + 1 for value in objective.origin]
    assert not statistics.at(moved)["1.running_mean"].equal(first["1.running_mean"])
    again = statistics.at(objective.origin)
    assert all(again[name].equal(value) for name, value in first.items())


def test_the_loss_with_them_does_not_depend_on_the_scale_before_the_normalisation() -> None:
    """Batch normalisation undoes a factor, once its statistics are those of the scaled network."""
    objective = Objective(batch_norm(), dtype=torch.float64)
    scaled = [3 * value if name.startswith("0.") else value for name, value in
              zip(objective.names, objective.origin, strict=True)]  # fmt: skip
    statistics = BatchStatistics(objective)
    losses = [at_own_statistics(objective, dict(statistics.at(p))).value(p) for p in (objective.origin, scaled)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=0)
    assert abs(objective.value(scaled) - objective.value()) > 1e-2


def test_a_part_of_the_examples_is_enough_and_dropout_stays_off() -> None:
    objective = Objective(batch_norm())
    objective.module[1] = nn.Sequential(objective.module[1], nn.Dropout(0.5).eval())  # type: ignore[index]
    assert normalises_batches(objective)
    assert not normalises_batches(Objective(mlp()))
    part = BatchStatistics(Objective(batch_norm()), max_examples=8)
    assert len(part._x) == 8
    assert not any(type(m) is nn.Dropout and m.training for m in part._module.modules())


@pytest.mark.parametrize(
    ("layer", "shape", "takes"),
    [
        (lambda: nn.BatchNorm1d(3), (1, 3), False),
        (lambda: nn.BatchNorm1d(3), (1, 3, 2), True),
        (lambda: nn.BatchNorm2d(3), (1, 3, 1, 1), False),
        (lambda: nn.BatchNorm2d(3), (1, 3, 1, 2), True),
        (lambda: nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3)), (1, 3, 2, 2), True),
    ],
)
def test_one_example_alone_needs_two_values_a_channel(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], takes: bool
) -> None:
    module = layer().eval()
    before, chance = tree.fingerprint(dict(module.named_buffers())), torch.random.get_rng_state()
    assert normalises_alone(module, torch.ones(shape)) is takes
    assert not module.training and tree.fingerprint(dict(module.named_buffers())) == before
    assert torch.equal(torch.random.get_rng_state(), chance)
