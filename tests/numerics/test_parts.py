"""An operator in two parts is their sum, and its pairs are those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.test_lanczos import MATRIX, TRUTH, P, must_be_certified
from tests.numerics.test_spectra import rotated
from vallis.core.errors import UsageError
from vallis.core.rng import Rng
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense
from vallis.numerics.parts import Parts


def parts(size: float) -> Parts:
    """The matrix, of which a part of this size is left to the second operator."""
    rest = rotated(torch.linspace(-1, 1, P, dtype=torch.float64).roll(37)) * size
    return Parts(Dense(MATRIX - rest), Dense(rest), 0.3)


def test_the_product_is_that_of_the_sum() -> None:
    vector = torch.randn(P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(parts(0.5) @ vector, MATRIX @ vector)


@pytest.mark.parametrize("size", [1e-6, 1e-2, 1.0, 30.0])
def test_pairs_are_those_of_the_whole_however_much_was_left_out(size: float) -> None:
    found = eigenpairs(parts(size), largest=5, smallest=2, rng=Rng(0), tolerance=1e-6)
    assert found.converged
    np.testing.assert_allclose(found.largest.values, TRUTH[::-1][:5], rtol=1e-6)
    np.testing.assert_allclose(found.smallest.values, TRUTH[:2], rtol=1e-6)
    must_be_certified(MATRIX, found.largest, 1e-6)


def test_little_left_out_saves_products() -> None:
    whole = eigenpairs(Dense(MATRIX), largest=5, rng=Rng(0), tolerance=1e-4)
    found = eigenpairs(parts(1e-6), largest=5, rng=Rng(0), tolerance=1e-4)
    assert found.num_products < whole.num_products


def test_products_are_counted_by_what_they_cost() -> None:
    operator = parts(1e-6)
    found = eigenpairs(operator, largest=5, rng=Rng(0), tolerance=1e-4)
    spent = 0.3 * operator.most.num_products + 0.7 * operator.rest.num_products
    assert found.num_products == np.ceil(spent - 1e-9)


def test_the_most_products_hold_for_both() -> None:
    found = eigenpairs(parts(1e-3), largest=10, rng=Rng(0), tolerance=1e-10, max_products=12)
    assert (found.stop, found.converged) == ("max_products", False)
    assert found.num_products <= 22
    must_be_certified(MATRIX, found.largest, 1e-10)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_impossible_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="a fraction between 0 and 1"):
        Parts(Dense(MATRIX), Dense(MATRIX), fraction)
