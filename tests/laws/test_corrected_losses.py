"""What the corrections for label noise make of curvature, against dense float64 matrices and against cross-entropy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.numerics.solutions import held, mlp
from vallis.core.corrected_losses import BackwardCorrected, CorrectedCrossEntropy, ForwardCorrected
from vallis.core.errors import LossError
from vallis.core.likelihood import likelihood_of
from vallis.core.losses import CrossEntropy, Loss
from vallis.core.objective import Objective
from vallis.core.types import Solution
from vallis.numerics.class_structure import class_structure
from vallis.numerics.curvature import GaussNewton, Hessian
from vallis.numerics.fisher import Fisher
from vallis.numerics.loss_roots import root
from vallis.numerics.transition_matrix import symmetric
from vallis.testing.oracles import dense_hessian

ROWS = symmetric(3, 0.4).tolist()
BOTH = (ForwardCorrected(transition=ROWS), BackwardCorrected(transition=ROWS))


def judged(loss: Loss) -> Solution:
    solution = mlp(double=True)
    return replace(solution, tasks=(replace(solution.task, loss=loss),))


@pytest.mark.parametrize("loss", BOTH)
def test_the_hessian_is_that_of_the_corrected_loss(loss: CorrectedCrossEntropy) -> None:
    solution = judged(loss)
    operator, dense = Hessian(Objective(solution)), dense_hessian(solution)
    eye = torch.eye(len(dense), dtype=torch.float64)
    found = torch.stack([operator @ row for row in eye])
    torch.testing.assert_close(found, dense, rtol=1e-9, atol=1e-12)
    plain = dense_hessian(judged(CrossEntropy()))
    assert float((dense - plain).abs().max()) > 1e-2 * float(plain.abs().max())


def test_backward_correction_has_the_gauss_newton_matrix_of_cross_entropy() -> None:
    """The rows of the inverse add up to one, and the curvature of cross-entropy in the logits knows no label."""
    corrected, plain = (GaussNewton(Objective(judged(loss))) for loss in (BOTH[1], CrossEntropy()))
    for seed in range(5):
        vector = torch.randn(61, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        torch.testing.assert_close(corrected @ vector, plain @ vector, rtol=1e-9, atol=1e-12)


def test_forward_correction_has_an_indefinite_gauss_newton_matrix_and_no_root() -> None:
    """It is not convex in the logits: whoever needs a square root of its curvature is told so."""
    objective = Objective(judged(BOTH[0]))
    operator = GaussNewton(objective)
    dense = torch.stack([operator @ row for row in torch.eye(61, dtype=torch.float64)])
    values = torch.linalg.eigvalsh((dense + dense.T) / 2)
    assert float(values[0]) < -1e-3 * float(values[-1])
    term = next(objective.terms())
    with torch.enable_grad():
        outputs = term.outputs([value.detach().requires_grad_() for value in objective.origin])
    with pytest.raises(LossError, match="convex in the scores"):
        root(term, outputs)


@pytest.mark.parametrize("loss", BOTH)
def test_what_takes_cross_entropy_for_granted_refuses(loss: CorrectedCrossEntropy) -> None:
    """Neither is the logarithm of a distribution over the network's own classes."""
    assert likelihood_of(loss) is None
    with pytest.raises(LossError, match="log-likelihood"):
        Fisher(Objective(judged(loss)))
    with pytest.raises(LossError, match="cross-entropy over classes"):
        class_structure(Objective(judged(loss)))


@pytest.mark.parametrize("made", [ForwardCorrected, BackwardCorrected])
def test_the_identity_has_the_curvature_of_cross_entropy(made: type[CorrectedCrossEntropy]) -> None:
    rows = torch.eye(3).tolist()
    found, wanted = (dense_hessian(judged(loss)) for loss in (made(transition=rows), CrossEntropy()))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


def test_ignored_targets_do_not_bend() -> None:
    solution = mlp(double=True)
    (x, y), rows = _all(solution), symmetric(3, 0.3).tolist()
    marked = torch.where(torch.arange(len(y)) % 3 == 0, -100, y)
    kept = marked != -100
    loss = BackwardCorrected(transition=rows)
    module = solution.net.module
    some, rest = held(module, x, marked, loss=loss), held(module, x[kept], y[kept], loss=loss)
    vector = torch.ones(61, dtype=torch.float64)
    torch.testing.assert_close(Hessian(Objective(some)) @ vector, Hessian(Objective(rest)) @ vector)


def _all(solution: Solution) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(solution.task.splits["train"])
    return torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches])
