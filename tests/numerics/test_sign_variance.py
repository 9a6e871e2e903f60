"""The variance of quadratic forms with random signs against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.test_spectra import rotated
from vallis.core.rng import Rng
from vallis.numerics.operators import Dense
from vallis.numerics.probes import signs
from vallis.numerics.sign_variance import SignVariance

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
