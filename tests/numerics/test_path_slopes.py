"""Slopes on random examples: all examples give the objective's own, passes see every example once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, batch_norm, built, classes, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.path_slopes import RandomSlopes
from vallis.numerics.surface import in_eval_mode


@pytest.mark.parametrize("name", ["mlp", "regression", "binary", "batch_norm", "frozen", "tied"])
def test_on_all_examples_it_is_the_objective(name: str) -> None:
    objective = Objective(in_eval_mode(AWKWARD[name]()), dtype=torch.float64)
    loss, gradient = RandomSlopes(objective, None, Rng(0)).next()(objective.vector(objective.origin))
    assert loss == pytest.approx(objective.value())
    torch.testing.assert_close(gradient, objective.gradient())


def test_a_pass_sees_every_example_once() -> None:
    objective = Objective(mlp(double=True))
    vector = objective.vector(objective.origin)
    slopes = RandomSlopes(objective, 5, Rng(0))
    found = [slopes.next()(vector) for _ in range(8)]
    sizes = torch.tensor([5, 5, 5, 2])
    for half in (found[:4], found[4:]):
        mean = sum(int(size) * gradient for size, (_, gradient) in zip(sizes, half, strict=True)) / 17
        torch.testing.assert_close(mean, objective.gradient())
    assert found[0][0] != found[4][0]


def test_with_the_statistics_of_the_batch_it_is_training_mode() -> None:
    objective = Objective(batch_norm(), dtype=torch.float64)
    slopes = RandomSlopes(objective, None, Rng(0), normalised_by_batch=True)
    before = {name: value.clone() for name, value in objective.buffers.items()}
    loss, _ = slopes.next()(objective.vector(objective.origin))
    module = copy.deepcopy(objective.module).double().train()
    x, y = objective.data.x.double(), objective.data.y  # type: ignore[attr-defined]
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(module(x), y).detach()))
    assert all(objective.buffers[name].equal(value) for name, value in before.items())


def test_an_example_that_cannot_be_normalised_alone_is_left_out() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)))
    objective = Objective(held(module, random(17, 4), classes(17)), dtype=torch.float64)
    vector = objective.vector(objective.origin)
    slopes = RandomSlopes(objective, 16, Rng(0), normalised_by_batch=True)
    losses = [slopes.next()(vector)[0] for _ in range(4)]
    order = torch.randperm(17, generator=Rng(0).child("epoch", 3).torch())[:16]
    x, y = objective.data.x.double(), objective.data.y  # type: ignore[attr-defined]
    expected = nn.functional.cross_entropy(copy.deepcopy(module).double().train()(x[order]), y[order])
    assert losses[3] == pytest.approx(float(expected.detach()))
    with pytest.raises(SettingsError, match="all stand alone"):
        RandomSlopes(objective, 1, Rng(0), normalised_by_batch=True).next()


def test_a_picture_alone_is_normalised() -> None:
    objective = Objective(batch_norm(), dtype=torch.float64)
    vector = objective.vector(objective.origin)
    slopes = RandomSlopes(objective, 16, Rng(0), normalised_by_batch=True)
    found = [slopes.next()(vector)[0] for _ in range(2)][1]
    last = torch.randperm(17, generator=Rng(0).child("epoch", 0).torch())[16:]
    x, y = objective.data.x.double(), objective.data.y  # type: ignore[attr-defined]
    module = copy.deepcopy(objective.module).double().train()
    assert found == pytest.approx(float(nn.functional.cross_entropy(module(x[last]), y[last]).detach()))
