"""Exits: from a worst start, with features of rank one, to zero loss with a rise that vanishes with the shake."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import binary, built, classes, held, mlp, random, regression, transformer
from vallis.core.errors import ModelError
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.basin_exits import last_layer, leave


def alike(width: int, num_examples: int = 20) -> Objective:
    """All hidden units are the same: the features have rank one."""
    module = built(lambda: nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))).double()
    with torch.no_grad():
        module[0].weight.copy_(module[0].weight[:1].expand_as(module[0].weight))
        module[0].bias.copy_(module[0].bias[:1].expand_as(module[0].bias))
    x, y = random(num_examples, 3).double(), random(num_examples, 1, seed=4).double()
    return Objective(held(module, x, y, loss=SquaredError()))


def test_the_barrier_vanishes_with_the_shake() -> None:
    objective = alike(30)
    ways = [leave(objective, shake=shake, rng=Rng(0)) for shake in (1e-1, 1e-2, 1e-3)]
    assert all(way.certified and way.monotone for way in ways)
    assert all(way.end < 1e-10 for way in ways[:2])
    assert ways[2].end < 1e-3 * objective.value()  # the features differ by 1e-3: least squares is near its rounding
    assert all(way.first[0] == objective.value() for way in ways)
    barriers = [max(way.barrier, 0.0) for way in ways]
    assert barriers[2] < 1e-5 and barriers == sorted(barriers, reverse=True)
    assert ways[0].price < ways[1].price < ways[2].price


def test_a_narrow_network_is_not_certified() -> None:
    way = leave(alike(8), shake=0.1, rng=Rng(0))
    assert not way.certified
    assert way.rank <= 9 and way.num_examples == 20


def test_classes_are_fitted_too() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 40), nn.Tanh(), nn.Linear(40, 3))).double()
    objective = Objective(held(module, random(12, 2).double(), classes(12)))
    way = leave(objective, shake=0.3, rng=Rng(0))
    assert way.certified and way.end < 1e-4 and way.barrier < 0.3
    assert np.isfinite(way.second).all()
    single = Objective(binary(), dtype=torch.float64)
    assert leave(single, shake=0.1, rng=Rng(0)).second[-1] < single.value() + 1


def test_the_last_layer_is_the_one_that_answers() -> None:
    assert last_layer(Objective(mlp())) == "4"
    assert last_layer(Objective(regression())) == "2"
    assert last_layer(Objective(transformer())) == "head"
    squashed = held(built(lambda: nn.Sequential(nn.Linear(2, 3), nn.Softplus())), random(9, 2), classes(9))
    with pytest.raises(ModelError, match="end it in"):
        last_layer(Objective(squashed))
    bare = held(built(lambda: nn.Linear(2, 3, bias=False)), random(9, 2), classes(9))
    with pytest.raises(ModelError, match="with a bias"):
        leave(Objective(bare), shake=0.1, rng=Rng(0))


def test_rounding_is_no_rank() -> None:
    """Features of a linear network lie in a space of four dimensions, whatever its width and precision."""
    module = built(lambda: nn.Sequential(nn.Linear(3, 60), nn.Linear(60, 60), nn.Linear(60, 2)))
    for dtype in (torch.float32, torch.float64):
        way = leave(
            Objective(held(module, random(20, 3), classes(20, num_classes=2)), dtype=dtype), shake=0.1, rng=Rng(0)
        )
        assert way.rank == 4 and not way.certified


class Tied(nn.Module):
    """Its last layer is registered first, and may be read twice."""

    def __init__(self, *, is_tied: bool) -> None:
        super().__init__()
        self.head = nn.Linear(30, 30 if is_tied else 9)
        self.hidden = self.head if is_tied else nn.Linear(30, 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(torch.tanh(self.hidden(x)))
        return found


def test_a_last_layer_may_be_registered_first() -> None:
    """The width of the answers was taken from the last parameter of the network, whatever that was."""
    module = built(lambda: Tied(is_tied=False)).double()
    way = leave(Objective(held(module, random(12, 30).double(), classes(12))), shake=0.1, rng=Rng(0))
    assert way.certified and way.end < 1e-3


def test_a_last_layer_that_is_read_twice_is_refused() -> None:
    """The end was said to fit all examples, at weights at which the network does not."""
    module = built(lambda: Tied(is_tied=True)).double()
    with pytest.raises(ModelError, match="read nowhere else"):
        leave(Objective(held(module, random(12, 30).double(), classes(12))), shake=0.1, rng=Rng(0))
