"""The dense way to a spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.test_spectra import rotated
from vallis.core.errors import UsageError
from vallis.numerics.asking import answered
from vallis.numerics.dense import dense_spectrum
from vallis.numerics.operators import Dense
from vallis.numerics.wanted import Wanted

VALUES = torch.tensor([-2.0, -2.0, 0.0, 1.0, 5.0, 5.0, 5.0], dtype=torch.float64)


def test_both_ends_with_multiplicities() -> None:
    matrix = rotated(VALUES)
    found = answered(dense_spectrum(Dense(matrix), Wanted(largest=4, smallest=3)))
    np.testing.assert_allclose(found.largest.values, [5, 5, 5, 1], atol=1e-12)
    np.testing.assert_allclose(found.smallest.values, [-2, -2, 0], atol=1e-12)
    for pairs in (found.largest, found.smallest):
        torch.testing.assert_close(matrix @ pairs.vectors, pairs.vectors * torch.from_numpy(pairs.values.copy()))
        torch.testing.assert_close(pairs.vectors.T @ pairs.vectors, torch.eye(len(pairs), dtype=torch.float64))
        assert pairs.residuals.max() < 1e-12
    assert (found.stop, found.num_products, found.converged) == ("dense", 7, True)
    assert found.scale == pytest.approx(5.0)


def test_no_pairs_of_one_end() -> None:
    found = answered(dense_spectrum(Dense(rotated(VALUES)), Wanted(largest=0, smallest=7)))
    assert len(found.largest) == 0
    np.testing.assert_allclose(found.smallest.values, VALUES, atol=1e-12)


def test_residuals_tell_of_what_is_wrong_with_the_products() -> None:
    """Of products that are not quite symmetric the residual is the distance to an eigenpair, not zero."""
    matrix = rotated(VALUES)
    matrix[0, 1] += 1e-6
    found = answered(dense_spectrum(Dense(matrix), Wanted(largest=7, smallest=0), tolerance=1e-8)).largest
    assert 1e-8 < found.residuals.max() < 2e-6
    assert not found.converged.all()
    assert answered(
        dense_spectrum(Dense(matrix), Wanted(largest=7, smallest=0), tolerance=1e-4)
    ).largest.converged.all()


def test_what_is_not_symmetric_is_refused() -> None:
    matrix = rotated(VALUES)
    matrix[0, 1] += 1e-3
    with pytest.raises(UsageError, match=r"a symmetric operator was required, .* differ by 0\.001"):
        answered(dense_spectrum(Dense(matrix), Wanted(largest=7, smallest=0)))


def test_nan_is_refused() -> None:
    matrix = rotated(VALUES)
    matrix[2, 2] = torch.nan
    with pytest.raises(UsageError, match="finite products were required"):
        answered(dense_spectrum(Dense(matrix), Wanted(largest=1, smallest=1)))


def test_by_magnitude_from_both_ends() -> None:
    found = answered(dense_spectrum(Dense(rotated(VALUES)), Wanted(magnitude=5)))
    np.testing.assert_allclose(found.largest.values, [5, 5, 5], atol=1e-12)
    np.testing.assert_allclose(found.smallest.values, [-2, -2], atol=1e-12)
