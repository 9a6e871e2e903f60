"""Permutations: a network with its units moved is the same function; a spec that does not fit is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built, random
from vallis.core.errors import UsageError
from vallis.core.rng import Rng
from vallis.numerics.permutations import (
    PermutationSpec,
    Place,
    identity,
    moved_along,
    other_places,
    permuted,
    random_permutations,
    rows_of,
)

WRITTEN = PermutationSpec(
    groups={"first": (Place("0.weight", 0), Place("0.bias", 0), Place("2.weight", 1))}, sizes={"first": 6}
)


def module() -> nn.Module:
    return built(lambda: nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3)))


def test_units_move_and_the_function_stays() -> None:
    one, tensors = module(), dict(module().named_parameters())
    moved = permuted(WRITTEN, tensors, random_permutations(WRITTEN, Rng(0)))
    assert not moved["0.weight"].equal(tensors["0.weight"])
    x = random(9, 2)
    torch.testing.assert_close(torch.func.functional_call(one, moved, x), one(x))
    stay = permuted(WRITTEN, tensors, identity(WRITTEN))
    assert all(stay[name].equal(value) for name, value in tensors.items())


def test_blocks_and_starts() -> None:
    value = torch.arange(8.0)
    moved = moved_along(value, Place("x", 0, block=2, start=2), torch.tensor([2, 0, 1]))
    assert moved.tolist() == [0, 1, 6, 7, 2, 3, 4, 5]
    matrix = torch.arange(12.0).view(2, 6)
    assert rows_of(matrix, Place("x", 1, block=2, start=2), 2).tolist() == [[2, 8, 3, 9], [4, 10, 5, 11]]


def test_a_group_on_two_axes_of_one_tensor() -> None:
    here, there = Place("w", 0), Place("w", 1)
    spec = PermutationSpec(groups={"g": (here, there)}, sizes={"g": 3})
    assert other_places(spec, here) == [("g", there)]
    matrix = torch.arange(9.0).view(3, 3)
    order = torch.tensor([2, 0, 1])
    assert permuted(spec, {"w": matrix}, {"g": order})["w"].equal(matrix[order][:, order])


def test_a_spec_of_another_network_is_refused() -> None:
    with pytest.raises(UsageError, match=r"2\.weight with at least 6 entries on axis 1"):
        permuted(WRITTEN, {**dict(module().named_parameters()), "2.weight": torch.zeros(3, 5)}, identity(WRITTEN))
    with pytest.raises(UsageError, match="none came"):
        WRITTEN.must_fit({})
