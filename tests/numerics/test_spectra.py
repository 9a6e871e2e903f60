"""How pairs are taken from rising ones, and what is no number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vallis.core.errors import UsageError
from vallis.numerics.spectra import Eigenpairs, lower, must_be_finite, upper

RISING = Eigenpairs(
    values=np.array([1.0, 2.0, 3.0]),
    vectors=torch.eye(3, dtype=torch.float64),
    residuals=np.array([0.1, 0.2, 0.3]),
    converged=np.array([True, False, True]),
)


def rotated(values: torch.Tensor) -> torch.Tensor:
    """A symmetric matrix with these eigenvalues."""
    drawn = torch.randn(len(values), len(values), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes, _ = torch.linalg.qr(drawn)
    return axes * values @ axes.T


def test_the_upper_pairs_fall() -> None:
    taken = upper(RISING, 2)
    assert (taken.values.tolist(), taken.residuals.tolist()) == ([3.0, 2.0], [0.3, 0.2])
    assert taken.converged.tolist() == [True, False]
    torch.testing.assert_close(taken.vectors, torch.eye(3, dtype=torch.float64)[:, [2, 1]])


def test_the_lower_pairs_rise() -> None:
    taken = lower(RISING, 2)
    assert taken.values.tolist() == [1.0, 2.0]
    assert len(lower(RISING, 0)) == 0


@pytest.mark.parametrize("size", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(size: float) -> None:
    with pytest.raises(UsageError, match="finite products were required"):
        must_be_finite(size)
    must_be_finite(1.0)
