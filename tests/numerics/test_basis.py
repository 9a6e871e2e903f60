"""The basis is orthonormal, its bounds bound, and nothing is lost in a thick restart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.test_spectra import rotated
from vallis.core.errors import UsageError
from vallis.core.rng import Rng
from vallis.numerics.asking import answered
from vallis.numerics.basis import Basis
from vallis.numerics.operators import Dense

P = 60
MATRIX = rotated(torch.linspace(-1.0, 3.0, P, dtype=torch.float64) ** 3)


def grown(matrix: torch.Tensor, steps: int, capacity: int = P) -> Basis:
    basis = Basis(Dense(matrix), capacity)
    for step in range(steps):
        answered(basis.follow(Rng(0).child(step)))
    return basis


def rows_of(basis: Basis) -> torch.Tensor:
    return basis._rows[: basis.size]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_orthonormal_and_the_projection_is_that_of_the_matrix(dtype: torch.dtype) -> None:
    basis = grown(MATRIX.to(dtype), 40)
    answered(basis.wander(Rng(0).child("elsewhere")))
    answered(basis.follow(Rng(0)))
    rows = rows_of(basis).double()
    small = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(rows @ rows.T, torch.eye(42, dtype=torch.float64), rtol=0, atol=small)
    values, combinations = basis.ritz()
    projected = combinations.T @ (rows @ MATRIX @ rows.T).numpy() @ combinations
    np.testing.assert_allclose(projected, np.diag(values), atol=100 * small)


def test_m_steps_match_the_first_moments_of_the_start() -> None:
    """Lanczos integrates polynomials up to degree 2m - 1 exactly."""
    basis = grown(MATRIX, 5)
    start = rows_of(basis)[0]
    values, combinations = basis.ritz()
    for degree in range(10):
        exact = float(start @ torch.linalg.matrix_power(MATRIX, degree) @ start)
        assert np.sum(combinations[0] ** 2 * values**degree) == pytest.approx(exact, rel=1e-10)
    exact = float(start @ torch.linalg.matrix_power(MATRIX, 10) @ start)
    assert np.sum(combinations[0] ** 2 * values**10) != pytest.approx(exact, rel=1e-6)


def residuals(basis: Basis, combinations: np.ndarray, values: np.ndarray) -> np.ndarray:
    vectors = torch.from_numpy(combinations.T.copy()) @ rows_of(basis)
    return np.asarray((vectors @ MATRIX - torch.from_numpy(values)[:, None] * vectors).norm(dim=1))


@pytest.mark.parametrize("wandering", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_bounds_are_never_below_the_residuals_and_exact_with_one_end(wandering: bool, restart: bool) -> None:
    basis = grown(MATRIX, 12)
    if wandering:
        answered(basis.wander(Rng(0).child("elsewhere")))
        for step in range(4):
            answered(basis.follow(Rng(step)))
    if restart:
        values, combinations = basis.ritz()
        basis.compress(values[-6:], combinations[:, -6:])
        for step in range(3):
            answered(basis.follow(Rng(step)))
    values, combinations = basis.ritz()
    true = residuals(basis, combinations, values)
    bounds = basis.bounds(combinations)
    assert (bounds > true - 1e-12).all()
    if not wandering:
        np.testing.assert_allclose(bounds, true, atol=1e-11)


def test_a_thick_restart_continues_the_same_space() -> None:
    """Kept Ritz vectors and the continuation span what the unrestarted basis does, up to what was thrown away."""
    basis = grown(MATRIX, 20)
    values, combinations = basis.ritz()
    basis.compress(values, combinations)  # throws nothing away
    answered(basis.follow(Rng(0)))
    longer, _ = grown(MATRIX, 21).ritz()
    np.testing.assert_allclose(basis.ritz()[0], longer, atol=1e-10)


def test_pairs_are_as_good_as_the_span_allows() -> None:
    basis = grown(MATRIX, 25)
    _, combinations = basis.ritz()
    values, vectors, errors = basis.pairs(combinations[:, -3:])
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3, dtype=torch.float64))
    true = (MATRIX @ vectors - vectors * torch.from_numpy(values)).norm(dim=0)
    np.testing.assert_allclose(errors, true, atol=1e-10)


def test_pairs_in_float32_are_honest_about_rounding() -> None:
    """Bounds know nothing of rounding; residuals do."""
    basis = grown(MATRIX.float(), 60)
    _, combinations = basis.ritz()
    values, vectors, errors = basis.pairs(combinations[:, -3:])
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-13)
    true = (MATRIX @ vectors - vectors * torch.from_numpy(values)).norm(dim=0)
    assert basis.bounds(combinations[:, -3:]).max() < 1e-9
    assert float(true.min()) > 1e-8
    np.testing.assert_allclose(errors, true, atol=5e-6)


def test_after_a_breakdown_a_random_direction_goes_on() -> None:
    matrix = rotated(torch.tensor([1.0] * 10 + [2.0] * 10, dtype=torch.float64))
    basis = grown(matrix, 2)
    assert basis.num_open == 0  # two distinct eigenvalues: a Krylov space has two dimensions
    for step in range(18):
        answered(basis.follow(Rng(1).child(step)))
    assert basis.complete
    np.testing.assert_allclose(basis.ritz()[0], [1.0] * 10 + [2.0] * 10, atol=1e-12)


def test_nan_is_refused() -> None:
    with pytest.raises(UsageError, match="finite"):
        grown(MATRIX * torch.nan, 1)
