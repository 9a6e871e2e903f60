"""Corrected eigenvalues against the diagonal of the dense Gauss-Newton block in the Kronecker basis."""

from __future__ import annotations

import pytest
import torch

from tests.numerics.layer_solutions import LAYERED
from tests.numerics.solutions import AWKWARD
from tests.numerics.test_curvature import dense_gauss_newton
from vallis.core.objective import Objective
from vallis.numerics.curvature import positions
from vallis.numerics.kronecker import factors
from vallis.numerics.kronecker_corrected import corrected
from vallis.numerics.kronecker_operators import Kronecker
from vallis.numerics.surface import in_eval_mode

ALL = AWKWARD | LAYERED


@pytest.mark.parametrize("name", ALL)
def test_the_eigenvalues_are_the_diagonal_of_the_block_in_the_basis(name: str) -> None:
    solution = in_eval_mode(ALL[name]())
    objective = Objective(solution, dtype=torch.float64)
    truth, found = dense_gauss_newton(solution), factors(objective)
    better = corrected(objective, found)
    assert list(better) == list(found)
    for layer, each in better.items():
        places = positions(objective, found[layer].names[:1])
        block = truth[places][:, places]
        m, n = each.basis.shape
        basis = torch.stack([each.basis.vector(i, j) for i in range(m) for j in range(n)], 1)
        torch.testing.assert_close(
            each.eigenvalues.reshape(-1), (basis.T @ block @ basis).diagonal(), rtol=1e-9, atol=1e-12
        )
        assert each.trace() == pytest.approx(float(block.trace()), rel=1e-9, abs=1e-15)
        plain = Kronecker(found[layer].outputs, found[layer].inputs).dense()
        assert float((each.dense() - block).norm()) <= float((plain - block).norm()) + 1e-12


def test_memory_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(in_eval_mode(LAYERED["convolutions"]()), dtype=torch.float64)
    found = factors(objective)
    whole = corrected(objective, found)
    monkeypatch.setattr("vallis.numerics.kronecker_corrected._SQUARES_BYTES", 1)
    for layer, each in corrected(objective, found).items():
        torch.testing.assert_close(each.eigenvalues, whole[layer].eigenvalues, rtol=1e-12, atol=1e-16)


def test_in_the_networks_own_precision() -> None:
    solution = AWKWARD["mlp"]()
    exact = Objective(solution, dtype=torch.float64)
    for layer, each in corrected(Objective(solution), factors(Objective(solution))).items():
        truth = corrected(exact, factors(exact))[layer]
        assert each.dtype == torch.float64
        torch.testing.assert_close(each.eigenvalues, truth.eigenvalues, rtol=1e-3, atol=1e-6)


def test_nothing_in_nothing_out() -> None:
    assert corrected(Objective(AWKWARD["mlp"]()), {}) == {}
