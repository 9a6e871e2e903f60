"""Weight matching: a permutation is undone exactly, small problems are solved as by enumeration, it never falls."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch

from tests.numerics.solutions import built
from tests.numerics.test_permutation_tracing import CASES
from vallis.core.rng import Rng
from vallis.numerics.permutation_tracing import find_permutations
from vallis.numerics.permutations import PermutationSpec, Place, identity, permuted, random_permutations
from vallis.numerics.weight_matching import likeness, match_units


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
def test_a_permutation_is_undone(name: str) -> None:
    make, inputs, _ = CASES[name]
    module = built(make).double().eval()
    spec = find_permutations(module, inputs().double())
    one = dict(module.named_parameters())
    every = {**one, **dict(module.named_buffers())}
    other = permuted(spec, every, random_permutations(spec, Rng(1)))
    found = match_units(spec, one, {name: other[name] for name in one}, Rng(0))
    back = permuted(spec, other, found)
    assert all(back[name].equal(value) for name, value in every.items())


def chain(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (3, 4), "b": (3, 3), "c": (2, 3)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


CHAIN = PermutationSpec(
    groups={"first": (Place("a", 0), Place("b", 1)), "second": (Place("b", 0), Place("c", 1))},
    sizes={"first": 3, "second": 3},
)


def test_it_is_near_the_best_of_all_orders_and_never_below_no_order() -> None:
    """All 36 pairs of orders of two groups of three: coordinate ascent finds the best of them in most problems."""
    best = 0
    for seed in range(20):
        one, other = chain(seed), chain(100 + seed)
        pairs = product(permutations(range(3)), repeat=2)
        heights = [likeness(CHAIN, one, other, {"first": torch.tensor(p), "second": torch.tensor(q)}) for p, q in pairs]
        reached = likeness(CHAIN, one, other, match_units(CHAIN, one, other, Rng(seed)))
        assert reached <= max(heights) + 1e-9
        assert reached >= likeness(CHAIN, one, other, identity(CHAIN))
        best += reached >= max(heights) - 1e-9
    assert best >= 14


def test_likeness_is_the_inner_product() -> None:
    one, other = chain(0), chain(1)
    expected = sum(float((one[name] * other[name]).sum()) for name in one)
    assert likeness(CHAIN, one, other, identity(CHAIN)) == pytest.approx(expected)
