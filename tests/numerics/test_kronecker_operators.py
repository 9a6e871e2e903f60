"""Kronecker operators against `torch.kron`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.numerics.layer_solutions import rectified
from tests.numerics.solutions import random
from vallis.core.errors import UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.kronecker import factors
from vallis.numerics.kronecker_operators import (
    Corrected,
    Kronecker,
    KroneckerBasis,
    joint_positions,
    kronecker_block,
    largest_products,
)
from vallis.numerics.lanczos import eigenpairs


def semidefinite(size: int, rank: int, seed: int) -> torch.Tensor:
    rows = random(rank, size, seed=seed).double()
    return rows.T @ rows


A, B = semidefinite(4, 3, 0), semidefinite(5, 7, 1)
DENSE = torch.kron(A, B)


def test_a_product_is_that_of_the_kronecker_product() -> None:
    operator = Kronecker(A, B)
    torch.testing.assert_close(operator.dense(), DENSE, rtol=1e-12, atol=1e-12)
    assert operator.trace() == pytest.approx(float(DENSE.trace()))
    assert operator.num_products == 20
    vectors = random(20, 3).double()
    torch.testing.assert_close(operator @ vectors, DENSE @ vectors, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5, 20, 30])
def test_the_eigenpairs_are_those_of_the_kronecker_product(count: int) -> None:
    found = Kronecker(A, B).largest(count)
    truth = torch.linalg.eigvalsh(DENSE).flip(0)[:count]
    assert len(found) == min(count, 20)
    np.testing.assert_allclose(found.values, truth, rtol=1e-9, atol=1e-9)
    assert float(found.residuals.max()) < 1e-10
    torch.testing.assert_close(found.vectors.T @ found.vectors, torch.eye(len(found), dtype=torch.float64))
    torch.testing.assert_close(DENSE @ found.vectors, found.vectors * torch.from_numpy(found.values), atol=1e-9, rtol=0)
    if count <= 5:
        iterated = eigenpairs(Kronecker(A, B), largest=count, rng=Rng(0))
        np.testing.assert_allclose(found.values, iterated.largest.values, rtol=1e-9)


def test_at_least_one_eigenvalue() -> None:
    with pytest.raises(UsageError, match="count=0"):
        Kronecker(A, B).largest(0)


def test_functions_of_the_operator() -> None:
    vector = random(20).double()
    inverse = torch.linalg.inv(DENSE + 0.1 * torch.eye(20, dtype=torch.float64))
    found = Kronecker(A, B).apply(lambda values: 1 / (values + 0.1), vector)
    torch.testing.assert_close(found, inverse @ vector, rtol=1e-9, atol=1e-9)


def test_the_basis_turns_there_and_back() -> None:
    basis = KroneckerBasis(A, B)
    vector = random(20).double()
    torch.testing.assert_close(basis.back(basis.to(vector)), vector, rtol=1e-12, atol=1e-12)
    assert float(basis.to(vector).norm()) == pytest.approx(float(vector.norm()))
    for i, j in ((0, 0), (3, 4), (1, 2)):
        assert float(basis.to(basis.vector(i, j))[i, j]) == pytest.approx(1)
    assert bool((basis.output_values.diff() <= 0).all())
    assert bool((basis.input_values.diff() <= 0).all())


def test_other_eigenvalues_in_the_same_basis() -> None:
    basis, values = KroneckerBasis(A, B), random(4, 5, seed=3).double()
    operator = Corrected(basis, values)
    dense = operator.dense()
    torch.testing.assert_close(dense, dense.T, rtol=1e-12, atol=1e-12)
    found = operator.largest(4)
    np.testing.assert_allclose(found.values, values.reshape(-1).sort(descending=True).values[:4], rtol=1e-12)
    torch.testing.assert_close(dense @ found.vectors, found.vectors * torch.from_numpy(found.values), atol=1e-9, rtol=0)
    assert operator.trace() == pytest.approx(float(dense.trace()))
    torch.testing.assert_close(operator.apply(torch.exp, torch.ones(20)), torch.matrix_exp(dense).sum(1))
    with pytest.raises(UsageError, match=r"\(4, 5\)"):
        Corrected(basis, values.T)


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_products_of_two_lists(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = (np.sort(generator.exponential(size=size))[::-1] for size in (6, 9))
    a = np.append(a, -1e-18)
    found = largest_products(a, b, 40)
    truth = np.sort(np.outer(a, b).ravel())[::-1][:40]
    np.testing.assert_allclose([value for _, _, value in found], truth, atol=1e-16)
    assert len({(i, j) for i, j, _ in found}) == 40
    np.testing.assert_allclose([a[i] * b[j] for i, j, _ in found], truth, atol=1e-16)


def test_all_products_of_equal_values_come_once() -> None:
    found = largest_products(np.ones(3), np.ones(4), 100)
    assert sorted((i, j) for i, j, _ in found) == [(i, j) for i in range(3) for j in range(4)]


def test_weight_and_bias_in_the_order_of_the_parameters() -> None:
    found = factors(Objective(rectified(), dtype=torch.float64))["2"]
    operator = kronecker_block(found).dense()
    torch.testing.assert_close(operator[:20, :20], torch.kron(found.outputs, found.inputs), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(operator[20:, 20:], found.outputs, rtol=1e-12, atol=1e-14)
    between = torch.kron(found.outputs, found.mean_input[:, None])
    torch.testing.assert_close(operator[:20, 20:], between, rtol=1e-12, atol=1e-14)
    assert sorted(joint_positions(4, 5).tolist()) == list(range(24))
    weight = kronecker_block(replace(found, names=("2.weight",)))
    torch.testing.assert_close(weight.dense(), torch.kron(found.outputs, found.inputs), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("bad", [random(3, 2), random(3, 3)])
def test_factors_that_are_not_symmetric_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="symmetric factors"):
        Kronecker(bad.double(), B)
