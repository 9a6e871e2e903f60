"""How much each example, and each of its targets, counts in the mean loss of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from vallis.core import tree
from vallis.core.errors import LossError
from vallis.core.losses import CrossEntropy, Loss, is_counted
from vallis.core.objective import Term
from vallis.core.own_loss import OwnLoss, Picked
from vallis.core.target_losses import ClassLoss


@dataclass(frozen=True, eq=False)
class RowWeights:
    """Weights of a batch.

    Attributes:
        examples: ``(N,)``, None where all count alike.
        targets: ``(N, T)``, None where an example has no axis of targets, or all count alike.
    """

    examples: torch.Tensor | None = None
    targets: torch.Tensor | None = None


def row_weights(term: Term) -> RowWeights:
    """How much the parts of a batch count, as its loss says."""
    loss, y = inner(term.objective.loss), term.batch.y
    if isinstance(loss, OwnLoss):
        return RowWeights() if loss.count in (None, torch.numel) else _by_asking(loss, y, len(term.batch))
    if isinstance(loss, (CrossEntropy, ClassLoss)) and not y.is_floating_point():
        return _of_targets(is_counted(y, loss.ignore_index).double())
    return RowWeights()


def inner(loss: Loss) -> Loss:
    """The loss itself, of one that picks its scores from what the network returns."""
    while isinstance(loss, Picked):
        loss = loss.loss
    return loss


def _of_targets(weights: torch.Tensor) -> RowWeights:
    """From weights ``(N, ...)`` of targets."""
    flat = weights.reshape(len(weights), -1)
    if bool((flat == flat[0, 0]).all()):
        return RowWeights()
    return RowWeights(flat.sum(1), flat if flat.shape[1] > 1 else None)


def _by_asking(loss: Loss, y: Any, num_examples: int) -> RowWeights:
    """What the loss says of each class of target, if that adds up; else of each example."""
    weights = _of_classes(loss, y)
    if weights is not None:
        return _of_targets(weights)
    if tree.length(y) != num_examples:
        return RowWeights()
    rows = [loss.weight(tree.take(y, torch.tensor([place], device="cpu"))) for place in range(num_examples)]
    return RowWeights() if len(set(rows)) == 1 else RowWeights(torch.tensor(rows, dtype=torch.float64))


def _of_classes(loss: Loss, y: Any) -> torch.Tensor | None:
    """What each target weighs, if that is told by its class alone."""
    if not isinstance(y, torch.Tensor) or y.ndim == 0 or y.is_floating_point():
        return None
    values, places = torch.unique(y, return_inverse=True)
    try:
        each = [loss.weight(value[None]) for value in values]
    except LossError:  # it takes whole examples only
        return None
    weights = torch.tensor(each, dtype=torch.float64, device=y.device)[places]
    return weights if math.isclose(float(weights.sum()), loss.weight(y), rel_tol=1e-5) else None
