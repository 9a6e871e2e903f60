"""The Fisher-Rao norm: how much the losses of the examples change when all weights grow together.

``|w|_fr^2 = w' F w = E <dl/dw, w>^2`` needs no matrix: one product of the Jacobian with w gives ``<dl/dw, w>`` for
every example. It is the same for all weights of one function that scale into each other, by layers or by units.

Source: Liang, Poggio, Rakhlin and Stokes (2019), Fisher-Rao metric, geometry, and complexity of neural networks,
definition 2 and theorem 3.1.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from vallis.core.errors import LossError
from vallis.core.functional import differentiating
from vallis.core.objective import Objective, Term
from vallis.numerics.curvature import GaussNewton
from vallis.numerics.derivatives import Tensors, pull


def fisher_rao_norm(objective: Objective) -> float:
    """``sqrt(E <dl/dw, w>^2)`` over the examples with their own labels: the definition of Liang et al.

    An example counts by its weight (its number of counted tokens), and its loss is its own mean.

    Raises:
        LossError: the loss cannot be taken apart into those of the examples, or gives them no slopes.
    """
    total = torch.zeros((), dtype=torch.float64, device=objective.device)
    for term in objective.terms():
        changes, weights = _changes(term)
        total += (weights.double() * changes.double() ** 2).sum()
    return math.sqrt(float(total) / objective.total_weight)


def model_fisher_rao_norm(objective: Objective) -> float:
    """``sqrt(w' G w)`` with the Gauss-Newton matrix; for cross-entropy that is the Fisher matrix of the model itself.

    There the labels are drawn from the network's own predictions, so it does not vanish where the labels are fitted.

    Raises:
        LossError: the loss has no scores, or bends down so much that ``w' G w`` is negative.
    """
    origin = objective.vector(objective.origin)
    operator = GaussNewton(objective)
    product = operator.matvec(origin)
    operator.clear()
    squared = float(origin.double() @ product.double())
    rounding = math.sqrt(torch.finfo(product.dtype).eps) * float(origin.double().norm() * product.double().norm())
    if squared < -rounding:
        raise LossError(
            f"a Gauss-Newton matrix G with w'Gw >= 0 was required for a norm, {squared:.3g} came, because the loss is "
            "not convex in the scores: use the norm with the labels of the data"
        )
    return math.sqrt(max(0.0, squared))


def _changes(term: Term) -> tuple[torch.Tensor, torch.Tensor]:
    """``(N,)`` the derivative of each example's loss along the weights, and ``(N,)`` how much it counts."""
    with differentiating():
        point = tuple(value.detach().requires_grad_() for value in term.objective.origin)
        returned = term.outputs(point)
        losses, weights = term.objective.loss.per_example(returned, term.batch.y)
        if losses.requires_grad:
            return _along(losses, point), weights.detach()
        return _by_rows(term, returned, weights, point), weights.detach()


def _by_rows(term: Term, returned: Any, weights: torch.Tensor, point: Tensors) -> torch.Tensor:
    """The same for a loss that gives numbers for the examples, but no slopes: it is a mean over rows of scores."""
    scores = term.objective.loss.scores(returned)
    loss = term.loss_of_outputs(returned)
    if scores is None or len(scores) != len(weights) or not loss.requires_grad:
        raise LossError(
            "a loss with one row of scores an example was required for the Fisher-Rao norm, this one has none: "
            "say where the scores are with outputs=lambda returned: ..."
        )
    (slopes,) = torch.autograd.grad(loss, scores, retain_graph=True, allow_unused=True, materialize_grads=True)
    rows = (slopes * _along(scores, point)).flatten(1).sum(1) if scores.ndim > 1 else slopes * _along(scores, point)
    shares = weights / weights.sum()
    return torch.where(shares > 0, rows / shares.clamp(min=torch.finfo(shares.dtype).tiny), 0.0)


def _along(outputs: torch.Tensor, point: Tensors) -> torch.Tensor:
    """``J w``, of the shape of the outputs: u -> J'u is linear, and its own transpose is J."""
    duals = (torch.zeros_like(outputs, requires_grad=True),)
    backward = pull((outputs,), point, duals, differentiable=True)
    return pull(backward, duals, tuple(value.detach() for value in point))[0]
