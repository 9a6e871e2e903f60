"""The examples that hold the curvature: the two parts are the whole, and nothing is taken apart that cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built, classes, held, random, regression, tokens
from vallis.core.losses import BinaryCrossEntropy
from vallis.core.objective import Objective
from vallis.core.types import Solution
from vallis.numerics.concentrated import concentrated, example_curvatures, fewest
from vallis.numerics.curvature import GaussNewton, Hessian
from vallis.numerics.parts import Parts
from vallis.testing.oracles import dense_hessian

N = 120


def sure(batch_size: int = 50, binary: bool = False) -> Solution:
    """A classifier that is sure of nine examples in ten."""
    module = built(lambda: nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1 if binary else 3))).double()
    x = random(N, 2).double()
    with torch.no_grad():
        module[2].bias.zero_()
        module[2].weight *= 1000
        y = (module(x)[:, 0] > 0).long() if binary else module(x).argmax(1)
        unsure = x[: N // 10]
        unsure[:] = 0  # their scores are those of the first bias alone, and small
        module[0].bias *= 1e-3
    return held(module, x, y, batch_size=batch_size, loss=BinaryCrossEntropy() if binary else None)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("batch_size", [50, 120, 7])
def test_the_parts_add_up_to_the_whole(batch_size: int, binary: bool) -> None:
    objective = Objective(sure(batch_size, binary), "train")
    operator = concentrated(objective, Hessian, 0.008)
    assert isinstance(operator, Parts)
    assert operator.cost_fraction < 0.7
    exact = dense_hessian(sure(batch_size, binary))
    torch.testing.assert_close(operator.dense(), exact, rtol=1e-9, atol=1e-10)
    left = operator.rest.dense().norm() / exact.norm()
    assert 0 < left < 0.5


def test_more_may_be_left_out_of_fewer_examples() -> None:
    objective = Objective(sure(), "train")
    fractions = []
    for tolerance in (0.05, 0.02, 0.005):
        operator = concentrated(objective, GaussNewton, tolerance)
        assert isinstance(operator, Parts)
        fractions.append(operator.cost_fraction)
    assert fractions == sorted(fractions)
    assert fractions[0] < fractions[-1]


def test_importance_is_slope_and_bend_of_the_loss() -> None:
    objective = Objective(sure(), "train")
    found = example_curvatures(objective)
    assert found is not None
    batch = next(iter(Objective(sure(N), "train").batches()))
    p = torch.softmax(objective.outputs_at(objective.origin, batch), 1).detach()
    slope = (p - nn.functional.one_hot(batch.y, 3)).norm(dim=1)
    torch.testing.assert_close(found, slope + 1 - (p**2).sum(1))


def test_ignored_tokens_and_other_losses() -> None:
    weights = example_curvatures(Objective(tokens(), "train"))
    assert weights is not None
    assert weights.shape == (17,)
    assert example_curvatures(Objective(regression(), "train")) is None
    assert isinstance(concentrated(Objective(regression(), "train"), Hessian, 0.01), Hessian)


def test_an_unsure_network_is_left_whole() -> None:
    module = built(lambda: nn.Linear(2, 3))
    objective = Objective(held(module, random(N, 2) * 0.1, classes(N), batch_size=50), "train")
    assert isinstance(concentrated(objective, Hessian, 0.01), Hessian)


class Mixing(nn.Module):
    """Its outputs depend on which examples come together, but for whole batches of fifty."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = 30.0 if len(x) % 10 == 0 else 20.0
        return self.layer(x) * scale


def test_a_network_that_mixes_its_examples_is_left_whole() -> None:
    module = built(Mixing)
    x = random(N, 2) * 3
    with torch.no_grad():
        y = module(x).argmax(1)
    x[:13] *= 1e-3
    objective = Objective(held(module, x, y, batch_size=60), "train")
    assert isinstance(concentrated(objective, Hessian, 0.008), Hessian)


def test_the_fewest_that_reach_a_share() -> None:
    weights = torch.tensor([1.0, 5.0, 0.0, 3.0, 1.0])
    assert fewest(weights, 0.5).tolist() == [False, True, False, False, False]
    assert fewest(weights, 0.79).tolist() == [False, True, False, True, False]
    assert int(fewest(weights, 1.0).sum()) == 4
    assert int(fewest(torch.zeros(3), 0.9).sum()) == 0
