"""The fit of Kronecker factors, where it is known: exact for one example and for squares, nothing for nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.layer_solutions import rectified
from tests.numerics.solutions import AWKWARD, classes, held, random, regression
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.curvature import Hessian
from vallis.numerics.eigenspaces import trace_overlap
from vallis.numerics.kronecker import factors
from vallis.numerics.kronecker_fit import KroneckerFit, kronecker_fit
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.spectra import Eigenpairs


def fitted(solution: Solution, layer: str, count: int) -> tuple[KroneckerFit, Eigenpairs]:
    objective = Objective(solution, dtype=torch.float64)
    found = factors(objective, [layer])[layer]
    pairs = eigenpairs(Hessian(objective, only=found.names), largest=count, rng=Rng(0)).largest
    return kronecker_fit(found, pairs), pairs


@pytest.mark.parametrize("layer", ["0", "2", "4"])
def test_the_factors_of_one_example_are_exact(layer: str) -> None:
    found, pairs = fitted(rectified(num_examples=1), layer, 2)
    np.testing.assert_allclose(found.values, pairs.values, rtol=1e-9)
    np.testing.assert_allclose(found.overlaps, 1, rtol=1e-9)
    np.testing.assert_allclose(found.rank_one, 1, rtol=1e-9)
    np.testing.assert_allclose(found.alignments, 1, rtol=1e-9)
    assert found.input_ratio == 0  # a single input has rank one
    assert 1 <= found.num_outputs <= 2  # C - 1 directions of the scores at most


def test_the_factors_of_a_linear_layer_under_squared_error_are_exact() -> None:
    found, pairs = fitted(regression(), "2", 6)
    np.testing.assert_allclose(found.values, pairs.values, rtol=1e-9)
    np.testing.assert_allclose(found.overlaps[1::2], 1, rtol=1e-9)  # the eigenvalues come in pairs
    assert found.num_outputs == 2


def test_weight_and_bias_are_compared_in_one_order() -> None:
    """Against the dense Kronecker product with the columns of [W b] put in the order of the parameters by hand."""
    solution = rectified()
    found, pairs = fitted(solution, "2", 5)
    made = factors(Objective(solution, dtype=torch.float64), ["2"])["2"]
    dense = torch.kron(made.outputs, made.joint_inputs).view(4, 6, 4, 6)
    order = [(i, j) for i in range(4) for j in range(5)] + [(i, 5) for i in range(4)]
    matrix = torch.stack([torch.stack([dense[a, b, c, d] for c, d in order]) for a, b in order])
    values, vectors = torch.linalg.eigh(matrix)
    np.testing.assert_allclose(found.values, values.flip(0)[:5], rtol=1e-9)
    for k in range(1, 6):
        assert found.overlaps[k - 1] == pytest.approx(trace_overlap(pairs.vectors[:, :k], vectors.flip(1)[:, :k]))
    first = torch.cat([pairs.vectors[:20, 0].view(4, 5), pairs.vectors[20:, 0][:, None]], 1)
    squares = torch.linalg.svdvals(first) ** 2
    assert found.rank_one[0] == pytest.approx(float(squares[0] / squares.sum()))


def test_without_a_bias_the_weight_stands_alone() -> None:
    module = torch.nn.Linear(2, 3, bias=False)
    found, pairs = fitted(held(module, random(1, 2), classes(1)), "", 2)
    np.testing.assert_allclose(found.values, pairs.values, rtol=1e-5)
    assert found.overlaps.shape == (2,)


def test_there_is_nothing_to_compare_where_there_is_no_curvature() -> None:
    found, _ = fitted(AWKWARD["unused"](), "idle", 3)
    for values in (found.overlaps, found.rank_one, found.alignments):
        assert np.isnan(values).all()
    assert found.num_outputs == 0
    found, _ = fitted(rectified(num_examples=1), "4", 6)
    assert np.isfinite(found.overlaps).tolist() == [True, True, False, False, False, False]
