"""Relative distances of operators, against the Frobenius norms of their matrices."""

from __future__ import annotations

import math

import pytest
import torch

from tests.numerics.solutions import random
from vallis.core.errors import SettingsError, UsageError
from vallis.core.rng import Rng
from vallis.numerics.distances import relative_distance
from vallis.numerics.operators import Dense
from vallis.numerics.probes import t_quantile


def symmetric(size: int, seed: int) -> torch.Tensor:
    drawn = random(size, size, seed=seed).double()
    return drawn + drawn.T


A, B = symmetric(30, 0), symmetric(30, 0) + 0.3 * symmetric(30, 1)
TRUE = float((A - B).norm() / A.norm())


def test_small_operators_exactly() -> None:
    assert relative_distance(Dense(A), Dense(B), num_probes=1, rng=Rng(0)) == (pytest.approx(TRUE), 0.0)
    assert relative_distance(Dense(A), Dense(A), num_probes=1, rng=Rng(0)) == (0.0, 0.0)
    assert math.isnan(relative_distance(Dense(0 * A), Dense(A), num_probes=1, rng=Rng(0))[0])


def test_the_error_bar_is_honest() -> None:
    num_probes, inside = 12, 0
    for seed in range(200):
        value, error = relative_distance(Dense(A), Dense(B), num_probes=num_probes, rng=Rng(seed), exact_size=0)
        assert error is not None
        assert 0 < error < 0.2 * TRUE
        inside += abs(value - TRUE) <= t_quantile(0.975, num_probes - 1) * error
    assert inside >= 181  # of an honest interval of 95 %, fewer of 200 come three times in 1000


def test_special_cases_by_probes() -> None:
    assert relative_distance(Dense(A), Dense(A), num_probes=2, rng=Rng(0), exact_size=0) == (0.0, 0.0)
    assert relative_distance(Dense(A), Dense(B), num_probes=1, rng=Rng(0), exact_size=0)[1] is None
    value, error = relative_distance(Dense(0 * A), Dense(A), num_probes=3, rng=Rng(0), exact_size=0)
    assert math.isnan(value)
    assert error is None
    single = Dense(A.float())
    assert relative_distance(single, Dense(B), num_probes=4, rng=Rng(1), exact_size=0)[0] == pytest.approx(
        relative_distance(Dense(A), Dense(B), num_probes=4, rng=Rng(1), exact_size=0)[0], rel=1e-4
    )


def test_what_cannot_be_compared() -> None:
    with pytest.raises(SettingsError, match="num_probes=0"):
        relative_distance(Dense(A), Dense(B), num_probes=0, rng=Rng(0))
    with pytest.raises(UsageError, match="one size"):
        relative_distance(Dense(A), Dense(symmetric(3, 0)), num_probes=1, rng=Rng(0))
