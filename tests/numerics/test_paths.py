"""Paths: their formulas, their ends to the bit, their lengths, one working vector."""

from __future__ import annotations

import math

import pytest
import torch

from tests.numerics.solutions import mlp
from vallis.core.errors import UsageError
from vallis.core.objective import Objective
from vallis.numerics.paths import Walk, bezier, chain, shares_of_length, straight

A, B, C = (torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in range(3))


def at(path: object, t: float) -> torch.Tensor:
    return path.write(t, torch.empty(5, dtype=torch.float64)).clone()  # type: ignore[attr-defined]


def test_a_segment_and_a_bezier_curve_are_their_formulas() -> None:
    for t in (0.0, 0.25, 0.6, 1.0):
        torch.testing.assert_close(at(straight(A, B), t), (1 - t) * A + t * B)
        curve = (1 - t) ** 2 * A + 2 * t * (1 - t) * B + t**2 * C
        torch.testing.assert_close(at(bezier([A, B, C]), t), curve)
        torch.testing.assert_close(at(bezier([A, C]), t), (1 - t) * A + t * C)


def test_the_ends_are_met_bit_for_bit() -> None:
    for path in (straight(A, C), bezier([A, B, C]), chain([A, B, C])):
        assert at(path, 0.0).equal(A)
        assert at(path, 1.0).equal(C)


def test_a_chain_goes_through_its_pivots_at_constant_speed() -> None:
    path = chain([A, B, C])
    (knot,) = path.knots
    first, second = float((B - A).norm()), float((C - B).norm())
    assert knot == pytest.approx(first / (first + second))
    torch.testing.assert_close(at(path, knot), B)
    torch.testing.assert_close(at(path, knot / 2), (A + B) / 2)
    assert path.length() == pytest.approx(first + second)
    assert shares_of_length([A, B]).tolist() == [0.0, 1.0]


def test_the_length_of_a_curve_is_that_of_its_polygon() -> None:
    """A Bezier curve of three points on a parabola y = x^2, from -1 to 1: its length in closed form."""
    points = [torch.tensor(p, dtype=torch.float64) for p in ([-1.0, 1.0], [0.0, -1.0], [1.0, 1.0])]
    exact = math.sqrt(5) + math.asinh(2) / 2
    assert bezier(points).length(2001) == pytest.approx(exact, rel=1e-6)


def test_a_walk_uses_one_vector() -> None:
    objective = Objective(mlp())
    start = objective.vector(objective.origin)
    walk = Walk(objective, straight(start, start + 1))
    first = walk.to(0.0)
    assert all(one.equal(other) for one, other in zip(first, objective.origin, strict=True))
    memory = [part.data_ptr() for part in first]
    second = walk.to(0.5)
    assert [part.data_ptr() for part in second] == memory
    torch.testing.assert_close(objective.vector(second), start + 0.5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="one shape"):
        straight(A, A[:3])
    with pytest.raises(UsageError, match="at least two"):
        chain([A])
    with pytest.raises(UsageError, match="differ"):
        chain([A, A.clone()])
    with pytest.raises(UsageError, match="a path of vectors"):
        Walk(Objective(mlp()), straight(A, B))
