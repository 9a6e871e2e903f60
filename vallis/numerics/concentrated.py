"""The curvature of an objective in two parts: of the few examples that hold nearly all of it, and of the others.

A trained network is sure of most of its examples. Their share of the curvature is tiny, and their share of the cost of
a product is most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from vallis.core import data, tree
from vallis.core.functional import differentiating
from vallis.core.objective import Objective
from vallis.core.types import Batch
from vallis.numerics.operators import Operator, Scaled
from vallis.numerics.parts import Parts

# With less to leave out, what is saved does not pay for finding the vectors twice.
_MOST = 0.7
_FEWEST = 50


# What is left out adds about an eighth of its share to the residuals (digits, two networks): so one pass suffices.
_LEFT_OUT_PER_TOLERANCE = 6.0


def concentrated(objective: Objective, make: Callable[[Objective], Operator], tolerance: float) -> Operator:
    """The operator of an objective, in two parts where that pays, and else as it is.

    Args:
        objective: the loss surface.
        make: `Hessian`, `GaussNewton` or another that is additive over examples.
        tolerance: of the eigenpairs that are looked for; the looser it is, the more is left to the second part.
    """
    left_out = _LEFT_OUT_PER_TOLERANCE * tolerance
    weights = example_curvatures(objective)
    if weights is None or len(weights) < _FEWEST or left_out >= 1:
        return make(objective)
    marks = fewest(weights, 1 - left_out)
    cost = float(marks.double().mean())
    most, rest = data.chosen(objective.data, marks), data.chosen(objective.data, ~marks)
    if cost > _MOST or most is None or rest is None:
        return make(objective)
    one, other = objective.over(most), objective.over(rest)
    share = one.counted / objective.total_weight
    if not 0 < share < 1 or not _add_up(objective, one, other, share):
        return make(objective)
    return Parts(Scaled(make(one), share), Scaled(make(other), 1 - share), cost)


def fewest(weights: torch.Tensor, share: float) -> torch.Tensor:
    """``(N,)`` bool, the fewest examples that together have this share of the weight ``(N,)``."""
    order = weights.argsort(descending=True, stable=True)
    before = weights[order].cumsum(0) - weights[order]
    marks = torch.zeros(len(weights), dtype=torch.bool)
    marks[order[before < share * weights.sum()]] = True
    return marks


def example_curvatures(objective: Objective) -> torch.Tensor | None:
    """``(N,)`` float64, how much each example bends the loss, up to what the network's own derivatives add to it.

    It is the length of the loss's slope in the scores and the trace of its second derivative there, for cross-entropy
    ``|p - y| + sum p (1 - p)``; each is the first order of one of the two terms of the Hessian. None where the loss is
    of another kind, or where outputs have no row for each example.
    """
    if objective.loss.kind not in ("categorical", "binary"):
        return None
    found = []
    for batch in objective.batches():
        part = _of_batch(objective, batch)
        if part is None:
            return None
        found.append(part)
    return torch.cat(found)


def _of_batch(objective: Objective, batch: Batch) -> torch.Tensor | None:
    with torch.no_grad():
        outputs = objective.outputs_at(objective.origin, batch)
    scores = objective.loss.scores(outputs)
    if scores is None or scores.shape[:1] != (len(batch),):
        return None
    if objective.loss.kind == "binary":
        p = torch.sigmoid(scores.double()).flatten(1) if scores.ndim > 1 else torch.sigmoid(scores.double())[:, None]
        bend = (p * (1 - p)).sum(1)
    elif scores.ndim > 1:
        p = torch.softmax(scores.double(), dim=1)
        bend = (p * (1 - p)).flatten(1).sum(1)
    else:
        return None
    slopes = _slopes(objective, outputs, batch)
    return None if slopes is None else (bend + slopes).cpu()


def _slopes(objective: Objective, outputs: Any, batch: Batch) -> torch.Tensor | None:
    """``(N,)`` the lengths of the slopes of the summed loss in what the network returned."""
    weight = float(objective.loss.weight(batch.y))
    if weight == 0:
        return torch.zeros(len(batch), dtype=torch.float64, device=objective.device)
    with differentiating():
        free = tree.map_tensors(lambda leaf: leaf.detach().requires_grad_(leaf.is_floating_point()), outputs)
        leaves = [leaf for leaf in tree.tensors(free) if leaf.requires_grad]
        if any(leaf.shape[:1] != (len(batch),) for leaf in leaves):
            return None
        loss = objective.loss.mean(free, batch.y)
        found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    squares = [slope.double().flatten(1).square().sum(1) if slope.ndim > 1 else slope.double() ** 2 for slope in found]
    return weight * torch.stack(squares).sum(0).sqrt()


def _add_up(whole: Objective, one: Objective, other: Objective, share: float) -> bool:
    """Whether the mean over both parts is that of all: a network that mixes its examples cannot be taken apart."""
    value = whole.value()
    parts = share * one.value() + (1 - share) * other.value()
    return abs(parts - value) <= 1e-5 * abs(value) + 1e-12
