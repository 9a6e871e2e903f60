"""Operators against the matrices that they stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh

from vallis.core.errors import UsageError
from vallis.numerics.operators import (
    Dense,
    Operator,
    Product,
    Restricted,
    Scaled,
    Shifted,
    Sum,
    must_be_symmetric,
)

P = 7


def symmetric(seed: int, size: int = P, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn + drawn.T).to(dtype)


A, B = symmetric(0), symmetric(1)
PLACES = torch.tensor([5, 0, 2])
EYE = torch.eye(P, dtype=torch.float64)

CASES: dict[str, tuple[Callable[[], Operator], torch.Tensor]] = {
    "sum": (lambda: Sum(Dense(A), Dense(B), Dense(A)), 2 * A + B),
    "plus": (lambda: Dense(A) + Dense(B), A + B),
    "minus": (lambda: Dense(A) - Dense(B), A - B),
    "scaled": (lambda: Scaled(Dense(A), -0.3), -0.3 * A),
    "times": (lambda: 2.0 * Dense(A) * 3.0, 6 * A),
    "negative": (lambda: -Dense(A), -A),
    "shifted": (lambda: Shifted(Dense(A), 0.7), A + 0.7 * EYE),
    "product": (lambda: Product(Dense(A), Dense(B)), A @ B),
    "restricted": (lambda: Restricted(Dense(A), PLACES), A[PLACES][:, PLACES]),
    "nested": (lambda: Shifted(Dense(A) + Product(Dense(B), Dense(B)), 1.0), A + B @ B + EYE),
}


@pytest.mark.parametrize("name", CASES)
def test_the_products_are_those_of_the_matrix(name: str) -> None:
    make, matrix = CASES[name]
    operator = make()
    assert operator.shape == tuple(matrix.shape)
    torch.testing.assert_close(operator.dense(), matrix, rtol=1e-13, atol=1e-13)
    columns = torch.randn(matrix.shape[0], 3, dtype=torch.float64)
    torch.testing.assert_close(operator @ columns, matrix @ columns, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(operator @ columns[:, 0], matrix @ columns[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"product", "nested"}))
def test_symmetric_operators_say_so(name: str) -> None:
    assert CASES[name][0]().is_symmetric


def test_only_palindromes_of_symmetric_factors_promise_symmetry() -> None:
    a, b, skew = Dense(A), Dense(B), Dense(torch.triu(A))
    assert Product(a, b, a).is_symmetric
    assert Product(a, a).is_symmetric
    assert not Product(a, b).is_symmetric
    assert not Product(a, skew, a).is_symmetric
    assert not (a + Product(a, b)).is_symmetric
    with pytest.raises(UsageError, match="symmetric operator was required, a Product"):
        must_be_symmetric(Product(a, b))
    with pytest.raises(UsageError, match="symmetric"):
        Product(a, b).to_scipy()


def test_products_are_counted_by_every_operator_that_makes_them() -> None:
    inner = Dense(A)
    outer = Sum(inner, Scaled(inner, 2.0))
    outer @ torch.ones(P, 4)
    assert (outer.num_products, inner.num_products) == (4, 8)


def test_vectors_are_converted_and_results_have_the_dtype_of_the_operator() -> None:
    operator = Dense(A.float())
    assert operator.matvec(torch.ones(P, dtype=torch.float64)).dtype == torch.float32
    assert operator.dense().dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scipy_finds_the_eigenvalues(dtype: torch.dtype) -> None:
    matrix = symmetric(3, 30, dtype)
    found = eigsh(Dense(matrix).to_scipy(), k=3, which="LA", return_eigenvectors=False)
    assert found.dtype == matrix.numpy().dtype
    np.testing.assert_allclose(np.sort(found), np.linalg.eigvalsh(matrix.double())[-3:], rtol=1e-4)


def test_misfits_are_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"shape \(7,\) was required, \(6,\) came"):
        Dense(A).matvec(torch.ones(6))
    with pytest.raises(UsageError, match="one size, dtype and device"):
        Dense(A) + Dense(symmetric(0, 6))
    with pytest.raises(UsageError, match="one size, dtype and device"):
        Dense(A) + Dense(A.float())
    with pytest.raises(UsageError, match="none came"):
        Sum()
    with pytest.raises(UsageError, match="square matrix"):
        Dense(torch.ones(2, 3))


@pytest.mark.parametrize("places", [[0, 0], [7], [-1], []])
def test_positions_must_be_some_of_the_coordinates(places: list[int]) -> None:
    with pytest.raises(UsageError, match=r"positions in 0\.\.6"):
        Restricted(Dense(A), torch.tensor(places, dtype=torch.long))
