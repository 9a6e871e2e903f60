"""Operators against the matrices that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

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
SQUARED = Dense(A)

CASES: dict[str, tuple[Callable[[], Operator], torch.Tensor]] = {
    "sum": (lambda: Sum(Dense(A), Dense(B), Dense(A)), 2 * A + B),
    "plus": (lambda: Dense(A) + Dense(B), A + B),
    "minus": (lambda: Dense(A) - Dense(B), A - B),
    "scaled": (lambda: Scaled(Dense(A), -0.3), -0.3 * A),
    "times": (lambda: 2.0 * Dense(A) * 3.0, 6 * A),
    "negative": (lambda: -Dense(A), -A),
    "shifted": (lambda: Shifted(Dense(A), 0.7), A + 0.7 * EYE),
    "product": (lambda: Product(Dense(A), Dense(B)), A @ B),
    "at": (lambda: Dense(A) @ Dense(B), A @ B),
    "square": (lambda: SQUARED @ SQUARED, A @ A),
    "sandwich": (lambda: SQUARED @ Dense(B) @ SQUARED, A @ B @ A),
    "divided": (lambda: Dense(A) / 4, A / 4),
    "by a tensor": (lambda: Dense(A) * torch.tensor(2.5), 2.5 * A),
    "by a numpy number": (lambda: np.float64(2.5) * Dense(A), 2.5 * A),
    "added up": (lambda: cast(Operator, sum([Dense(A), Dense(B)])), A + B),
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


@pytest.mark.parametrize("name", sorted(set(CASES) - {"product", "nested", "at", "sandwich"}))
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


def test_a_matrix_of_tiny_numbers_is_compared_with_itself() -> None:
    assert not Dense(1e-12 * torch.triu(A)).is_symmetric
    assert Dense(1e-12 * A).is_symmetric
    assert Dense(1e12 * A.float()).is_symmetric
    with pytest.raises(UsageError, match=r"real floating numbers was required, torch.int64 came"):
        Dense(torch.eye(3, dtype=torch.int64))


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


def test_a_sandwich_reads_the_same_from_both_sides() -> None:
    a, b = Dense(A), Dense(B)
    assert (a @ b @ a).is_symmetric
    assert (a @ (b @ a)).is_symmetric
    assert not (a @ b).is_symmetric


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scipy_operators_take_whatever_arrays_numpy_makes(dtype: torch.dtype) -> None:
    scipy_operator = Dense(A.to(dtype)).to_scipy()
    vector = np.random.default_rng(0).standard_normal(P)
    frozen = vector.copy()
    frozen.flags.writeable = False
    other = 1j * vector[::-1] + vector
    for given in (vector[::-1], vector.astype(">f8"), frozen, np.arange(P), 1j * vector, other, vector > 0):
        np.testing.assert_allclose(scipy_operator @ given, A.numpy() @ given, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(scipy_operator.rmatvec(given), A.numpy() @ given, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        scipy_operator @ np.stack([vector, vector[::-1]], axis=1)[:, ::-1],
        A.numpy() @ np.stack([vector[::-1], vector], axis=1),
        rtol=1e-5,
        atol=1e-5,
    )


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "A * A": (lambda a: a * a, "write A @ B"),
    "A * True": (lambda a: a * True, "real number beside"),
    "A * 2j": (lambda a: a * 2j, "real number beside"),
    "A * tensor": (lambda a: a * torch.ones(P), "write A @ B"),
    "tensor * A": (lambda a: torch.ones(P) * a, "write A @ B"),
    "array * A": (lambda a: np.ones(P) * a, "write A @ B"),
    "A / A": (lambda a: a / a, "real number beside"),
    "A / 0": (lambda a: a / 0, "divisor other than zero"),
    "A + 1": (lambda a: a + 1, r"Shifted\(A, shift\)"),
    "1 + A": (lambda a: 1 + a, r"Shifted\(A, shift\)"),
    "A - 1": (lambda a: a - 1, r"Shifted\(A, shift\)"),
    "1 - A": (lambda a: 1 - a, r"Shifted\(A, shift\)"),
    "A + tensor": (lambda a: a + A, r"Dense\(matrix\)"),
    "tensor + A": (lambda a: A + a, r"Dense\(matrix\)"),
    "A @ array": (lambda a: a @ np.ones(P), "torch.as_tensor"),
    "array @ A": (lambda a: np.ones(P) @ a, "write A @ v"),
    "tensor @ A": (lambda a: torch.ones(P) @ a, "write A @ v"),
    "A @ 2": (lambda a: a @ 2, "an operator or a tensor"),
    "A @ three axes": (lambda a: a @ torch.ones(P, 2, 2), r"\(7, K\) was required"),
    "A @ lying": (lambda a: a @ torch.ones(2, P), r"\(7, K\) was required"),
    "A @ no columns": (lambda a: a @ torch.ones(P, 0), r"\(7, K\) was required"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_matrices_of_numbers_do_and_operators_do_not_is_refused_in_a_sentence(what: str) -> None:
    make, said = REFUSED[what]
    with pytest.raises(UsageError, match=said):
        make(Dense(A))


def test_misfits_are_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="a real vector was required, a complex one came"):
        Dense(A) @ torch.ones(7, dtype=torch.complex128)
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


def test_a_matrix_that_is_held_takes_no_product() -> None:
    held = Dense(A)
    copied = held.dense()
    assert (held.num_products, torch.equal(copied, A)) == (0, True)
    copied.zero_()
    assert torch.equal(held.matrix, A)
