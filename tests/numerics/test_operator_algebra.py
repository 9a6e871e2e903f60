"""Blocks, sums, multiples, products, shifts and SciPy on every kind of curvature, against dense float64 matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import nn

from tests.numerics.solutions import AWKWARD, built, classes, held, random
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.curvature import GaussNewton, Hessian, positions
from vallis.numerics.fisher import EmpiricalFisher, Fisher, SampledFisher
from vallis.numerics.operators import Operator, Product, Restricted, Shifted, Sum
from vallis.numerics.residual import Residual
from vallis.numerics.surface import in_eval_mode


def small() -> Solution:
    """38 parameters, in ragged batches."""
    return held(built(lambda: nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3))), random(17, 2), classes(17))


KINDS: dict[str, Callable[..., Operator]] = {
    "hessian": Hessian,
    "gauss_newton": GaussNewton,
    "residual": Residual,
    "fisher": Fisher,
    "sampled": partial(SampledFisher, rng=Rng(0), num_draws=2),
    "empirical": EmpiricalFisher,
    "per_example": partial(EmpiricalFisher, per="example"),
}
# At most 60 parameters each: ragged, tied, frozen, unused, masked tokens, a regression, single logits.
SOLUTIONS: dict[str, Callable[[], Solution]] = {
    "small": small,
    **{name: AWKWARD[name] for name in ("dead_relu", "tied", "frozen", "unused", "tokens", "regression", "binary")},
}
ONLY = {
    "small": ["2", "0.bias"],
    "dead_relu": ["0.weight", "2.bias"],
    "tied": ["there.weight", "back.bias"],
    "frozen": ["2"],
    "unused": ["one", "idle.bias"],
    "tokens": ["head"],
    "regression": ["0"],
    "binary": ["2.weight", "0"],
}
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(params=SOLUTIONS)
def case(request: pytest.FixtureRequest) -> tuple[str, Objective]:
    return request.param, Objective(in_eval_mode(SOLUTIONS[request.param]()), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_the_algebra_is_that_of_the_matrices(kind: str, case: tuple[str, Objective]) -> None:
    name, objective = case
    operator, other = KINDS[kind](objective), GaussNewton(objective)
    A, B, eye = operator.dense(), other.dense(), torch.eye(operator.size, dtype=torch.float64)
    assert operator.size <= 60
    torch.testing.assert_close(A, A.T, **CLOSE)
    torch.testing.assert_close((operator + other).dense(), A + B, **CLOSE)
    torch.testing.assert_close((operator - 2.0 * other).dense(), A - 2 * B, **CLOSE)
    torch.testing.assert_close((-operator * 0.5).dense(), -0.5 * A, **CLOSE)
    torch.testing.assert_close(Shifted(operator, 0.3).dense(), A + 0.3 * eye, **CLOSE)
    torch.testing.assert_close(Product(operator, other, operator).dense(), A @ B @ A, **CLOSE)
    torch.testing.assert_close(Sum(operator, other, operator).dense(), 2 * A + B, **CLOSE)
    assert Product(operator, other, operator).is_symmetric
    where = positions(objective, ONLY[name])
    assert 0 < len(where) < operator.size
    torch.testing.assert_close(Restricted(operator, where).dense(), A[where][:, where], **CLOSE)
    block = KINDS[kind](objective, only=ONLY[name])
    torch.testing.assert_close(Shifted(block, 0.3).dense(), A[where][:, where] + 0.3 * eye[where][:, where], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_scipy_takes_every_kind(kind: str) -> None:
    objective = Objective(small(), dtype=torch.float64)
    operator = KINDS[kind](objective)
    truth = np.linalg.eigvalsh(operator.dense().numpy())
    found = eigsh(operator.to_scipy(), k=3, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found), truth[-3:], rtol=1e-9)
    shifted = Shifted(KINDS[kind](objective, only=["2"]), -1.0).to_scipy()
    where = positions(objective, ["2"]).numpy()
    block = operator.dense().numpy()[np.ix_(where, where)]
    vector = random(18, seed=3).double().numpy()
    np.testing.assert_allclose(shifted @ vector, block @ vector - vector, rtol=1e-10)


def test_the_parts_add_up_in_any_bracket() -> None:
    objective = Objective(small(), dtype=torch.float64)
    parts = Fisher(objective) + Residual(objective)
    torch.testing.assert_close(parts.dense(), Hessian(objective).dense(), **CLOSE)
    none = Hessian(objective) - GaussNewton(objective) - Residual(objective)
    assert float(none.dense().abs().max()) < 1e-13
