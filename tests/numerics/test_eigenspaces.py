"""Overlaps against their laws (D6 of the paper's card), matrices of eigenvectors against Kronecker products."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.numerics.solutions import random
from vallis.core.errors import UsageError
from vallis.numerics.eigenspaces import (
    dominance,
    input_correspondence,
    output_correspondence,
    overlap_curve,
    random_overlap,
    rank_one_energy,
    reshaped,
    right_alignment,
    trace_overlap,
)
from vallis.numerics.kronecker_operators import Kronecker, KroneckerBasis


def rotation(size: int, seed: int) -> torch.Tensor:
    found, triangle = torch.linalg.qr(random(size, size, seed=seed).double())
    return found * triangle.diagonal().sign()


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_overlap_is_that_of_the_projectors_whatever_the_bases(size: int, count: int, seed: int) -> None:
    count = min(count, size)
    one, other = random(size, count, seed=seed).double(), random(size, count, seed=seed + 1).double()
    p, q = (columns @ torch.linalg.pinv(columns) for columns in (one, other))
    found = trace_overlap(one, other)
    assert found == pytest.approx(float((p @ q).trace()) / count, abs=1e-6)
    assert trace_overlap(one @ rotation(count, seed), other) == pytest.approx(found, abs=1e-6)
    assert trace_overlap(other, one) == pytest.approx(found, abs=1e-9)
    turned = rotation(size, seed)
    assert trace_overlap(turned @ one, turned @ other) == pytest.approx(found, abs=1e-6)
    assert -1e-12 <= found <= 1 + 1e-12


def test_the_same_space_and_orthogonal_spaces() -> None:
    columns = rotation(9, 0)
    assert trace_overlap(columns[:, :4], columns[:, :4] @ rotation(4, 1)) == pytest.approx(1)
    assert trace_overlap(columns[:, :4], columns[:, 4:8]) == pytest.approx(0, abs=1e-12)
    assert trace_overlap(columns[:, :4], columns[:, 2:6]) == pytest.approx(0.5)


def test_the_curve_is_the_overlap_of_the_first_ones() -> None:
    one, other = rotation(9, 2), rotation(9, 3)
    curve = overlap_curve(one, other)
    for k in range(1, 10):
        assert curve[k - 1] == pytest.approx(trace_overlap(one[:, :k], other[:, :k]))
    assert curve[-1] == pytest.approx(1)


@pytest.mark.parametrize(("count", "size"), [(1, 2), (1, 7), (3, 7), (6, 7), (7, 7), (4, 30)])
def test_random_spaces(count: int, size: int) -> None:
    draws = 2000
    fixed = torch.eye(size, dtype=torch.float64)[:, :count]
    seen = np.array([trace_overlap(fixed, random(size, count, seed=seed).double()) for seed in range(draws)])
    mean, std = random_overlap(count, size)
    assert seen.mean() == pytest.approx(mean, abs=4 * std / math.sqrt(draws) + 1e-12)
    kurtosis = 3.0 if std == 0 else float(np.mean((seen - mean) ** 4) / std**4)
    assert seen.var() == pytest.approx(std**2, abs=4 * std**2 * math.sqrt((kurtosis - 1) / draws) + 1e-12)


def test_a_space_of_one_dimension_in_one() -> None:
    assert random_overlap(1, 1) == (1.0, 0.0)
    with pytest.raises(UsageError, match="k=3, D=2"):
        random_overlap(3, 2)


def test_what_spans_no_space_is_refused() -> None:
    column = random(5, 1).double()
    with pytest.raises(UsageError, match="independent"):
        trace_overlap(torch.cat([column, 2 * column], 1), random(5, 2).double())
    with pytest.raises(UsageError, match="independent"):
        trace_overlap(torch.zeros(5, 1), column)
    for shape in ((5, 2), (4, 1), (5, 0)):
        with pytest.raises(UsageError, match="one shape"):
            trace_overlap(column, random(*shape))
    with pytest.raises(UsageError, match="K <= D"):
        trace_overlap(random(2, 3), random(2, 3, seed=1))


def test_eigenvectors_of_a_kronecker_product_have_rank_one() -> None:
    rows, inputs = random(4, 3).double(), random(6, 5, seed=1).double()
    basis = KroneckerBasis(rows.T @ rows, inputs.T @ inputs)
    pairs = Kronecker(rows.T @ rows, inputs.T @ inputs).largest(4)
    matrices = reshaped(pairs.vectors, (3, 5))
    assert matrices.shape == (4, 3, 5)
    torch.testing.assert_close(matrices[1].reshape(-1), pairs.vectors[:, 1])
    np.testing.assert_allclose(rank_one_energy(matrices), 1)
    for found in (
        input_correspondence(matrices, basis.input_vectors),
        output_correspondence(matrices, basis.output_vectors),
    ):
        np.testing.assert_allclose(found.sum(1), 1)
        np.testing.assert_allclose(found.max(1), 1)
    first = input_correspondence(matrices, basis.input_vectors)[0].argmax()
    assert right_alignment(matrices, -3 * basis.input_vectors[:, first])[0] == pytest.approx(1)


def test_the_shares_of_any_vector_add_up() -> None:
    vectors = rotation(15, 0)[:, :4]
    matrices = reshaped(vectors, (3, 5))
    squares = np.linalg.svd(matrices.numpy(), compute_uv=False) ** 2
    np.testing.assert_allclose(rank_one_energy(matrices), squares[:, 0] / squares.sum(1))
    by_input = input_correspondence(matrices, rotation(5, 1))
    by_output = output_correspondence(matrices, rotation(3, 1))
    assert (by_input.shape, by_output.shape) == ((4, 5), (4, 3))
    np.testing.assert_allclose(by_input.sum(1), 1)
    np.testing.assert_allclose(by_output.sum(1), 1)
    direction = random(5).double()
    _, _, right = np.linalg.svd(matrices[2].numpy())
    expected = abs(right[0] @ direction.numpy()) / direction.norm()
    assert right_alignment(matrices, direction)[2] == pytest.approx(float(expected))
    with pytest.raises(UsageError, match="2 times 4"):
        reshaped(vectors, (2, 4))


def test_a_bias_is_a_further_column() -> None:
    weight, bias = random(3, 5, seed=1), random(3, seed=2)
    (matrix,) = reshaped(torch.cat([weight.reshape(-1), bias])[:, None], (3, 5))
    assert torch.equal(matrix, torch.cat([weight, bias[:, None]], 1).double())


def test_nothing_has_no_rank_and_no_direction() -> None:
    assert np.isnan(rank_one_energy(torch.zeros(1, 2, 3))).all()
    assert np.isnan(right_alignment(random(1, 2, 3), torch.zeros(3))).all()


def test_how_much_the_first_eigenvalue_dominates() -> None:
    turned = rotation(4, 0)
    assert dominance(turned @ torch.diag(torch.tensor([6.0, 1.5, 1.0, 0.0]).double()) @ turned.T) == pytest.approx(4)
    assert dominance(torch.outer(turned[0], turned[0])) == math.inf
    assert math.isnan(dominance(torch.zeros(3, 3)))
    assert math.isnan(dominance(torch.ones(1, 1)))
