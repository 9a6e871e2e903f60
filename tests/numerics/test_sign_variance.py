"""The variance of quadratic forms with random signs against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.test_spectra import rotated
from vallis.core.rng import Rng
from vallis.numerics.operators import Dense
from vallis.numerics.probes import signs
from vallis.numerics.sign_variance import SignVariance, SquareVariance

MATRIX = rotated(torch.linspace(-1, 3, 40, dtype=torch.float64)) + torch.diag(torch.linspace(0, 9, 40)).double()


def estimate(matrix: torch.Tensor, seed: int, num_probes: int) -> float:
    seen = SignVariance()
    for place in range(num_probes):
        z = signs(Dense(matrix), Rng(seed).child(place))
        seen.add(z, matrix @ z)
    return seen.value()


def test_unbiased() -> None:
    true = 2 * float((MATRIX**2).sum() - (MATRIX.diagonal() ** 2).sum())
    found = [estimate(MATRIX, seed, 3) for seed in range(400)]
    assert np.mean(found) == pytest.approx(true, abs=4 * np.std(found) / 20)


def test_by_enumeration_it_is_the_variance_itself() -> None:
    """Over all signs of five coordinates, the formula that is estimated is the variance of the forms."""
    matrix = MATRIX[:5, :5]
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 5)
    forms = ((corners @ matrix) * corners).sum(1)
    seen = SignVariance()
    for corner in corners:
        seen.add(corner, matrix @ corner)
    # Pairs of different corners have the mean sum_i B_ii² too, but for the 32 pairs of a corner with itself.
    assert seen.value() == pytest.approx(float(forms.var(correction=0)), rel=0.1)


def test_a_diagonal_has_none_and_one_probe_knows_nothing() -> None:
    assert estimate(torch.diag(torch.arange(40.0)).double(), 0, 4) == pytest.approx(0.0, abs=1e-9)
    assert estimate(MATRIX, 0, 1) == 0.0
    assert SignVariance().value() == 0.0


def of_squares(matrix: torch.Tensor, seed: int, num_probes: int, room: int = 100) -> float:
    seen = SquareVariance(room)
    for place in range(num_probes):
        z = signs(Dense(matrix), Rng(seed).child(place))
        seen.add(z, matrix @ z)
    return seen.value()


def test_that_of_squares_is_what_it_says_without_a_product_of_the_square() -> None:
    square = MATRIX @ MATRIX
    true = 2 * float((square**2).sum() - (square.diagonal() ** 2).sum())
    lacking = 2 * float(((MATRIX**2).sum(1) ** 2 - (MATRIX**4).sum(1)).sum())
    found = [of_squares(MATRIX, seed, 5) for seed in range(150)]
    assert np.mean(found) == pytest.approx(true + 2 * lacking / 3, abs=4 * np.std(found) / 150**0.5)


def test_of_a_diagonal_squares_have_none_and_two_probes_know_nothing() -> None:
    assert of_squares(torch.diag(torch.arange(40.0)).double(), 0, 4) == pytest.approx(0.0, abs=1e-9)
    assert of_squares(MATRIX, 0, 2) == SquareVariance(2).value() == 0.0


def test_what_there_is_no_room_for_is_left_out() -> None:
    assert of_squares(MATRIX, 0, 6, room=3) == of_squares(MATRIX, 0, 3) > 0
