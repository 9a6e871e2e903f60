"""The three levels of the Gauss-Newton matrix of a classifier: classes, pairs of classes, and what is within them.

With ``g_{i,c'} = J_i' (p_i - e_{c'})`` the gradient of example i's cross-entropy if its label were c', the matrix is
``G = sum_{i,c'} w_{i,c'} g g'`` with weights ``w = p_{i,c'}`` times the share of the example. Over examples of class c
these gradients have the weighted means ``g_{c,c'}`` (cross-class means), and these, over c' ≠ c, the means ``g_c``
(class means). So ``G = G_class + G_cross + G_within`` exactly, with

``G_class = sum_c w_c g_c g_c' + w_{c,c} g_{c,c} g_{c,c}'``, of rank C,
``G_cross = sum_{c ≠ c'} w_{c,c'} (g_{c,c'} - g_c)(g_{c,c'} - g_c)'``, of rank C (C - 2) at most, and
``G_within`` of the deviations ``g_{i,c'} - g_{c,c'}``.

As the ``p`` mean of an example's gradients is zero, ``g_{c,c}`` is a multiple of ``g_c``. In the paper it is a term of
its own, with the deviations around it; here mean and deviations go where they belong.

A class weight multiplies the shares of the examples of its class: the matrix is that of the weighted mean loss. Weights
together with label smoothing are refused, as the curvature of an example is then not in proportion to its weight.

Source: Papyan (2020), Traces of class/cross-class structure pervade deep learning spectra.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from vallis.core import tree
from vallis.core.errors import LossError, UsageError, VallisError
from vallis.core.functional import differentiating
from vallis.core.likelihood import Likelihood, described, likelihood_of
from vallis.core.losses import CrossEntropy, Loss
from vallis.core.objective import Objective, Term
from vallis.core.own_loss import OwnLoss, function_of
from vallis.core.types import Batch
from vallis.numerics.curvature import select
from vallis.numerics.derivatives import pull
from vallis.numerics.low_rank import LowRank
from vallis.numerics.memory import spare_bytes
from vallis.numerics.operators import Operator
from vallis.numerics.row_weights import inner
from vallis.numerics.spectra import Eigenpairs

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassStructure:
    """The parts of the Gauss-Newton matrix that classes make.

    Attributes:
        classes: ``G_class`` as ``A A'``, one column a class.
        cross: ``G_cross`` as ``B B'``, one column a pair ``(c, c')`` with ``c ≠ c'``, those of the first class first.
        weights: ``(C, C)`` w_{c,c'}, the mean probability of c' among all examples, each with its class weight, of
            those with label c.
    """

    classes: LowRank
    cross: LowRank
    weights: torch.Tensor

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.weights)

    def within(self, gauss_newton: Operator) -> Operator:
        """``G_within``, as what the other two leave of the whole."""
        return gauss_newton - self.classes - self.cross

    def explained(self, pairs: Eigenpairs) -> Floats:
        """``(3, k)`` the shares of class, cross-class and within in each eigenvalue of the Gauss-Newton matrix.

        ``v' G v = v' G_class v + v' G_cross v + v' G_within v`` for its eigenvector v, and none is negative.
        """
        vectors = pairs.vectors.to(self.classes.device)
        parts = [
            (each.columns.double().T @ vectors).square().sum(0).cpu().numpy() for each in (self.classes, self.cross)
        ]
        between = np.stack(parts) / pairs.values
        return np.concatenate([between, 1 - between.sum(0, keepdims=True)])


def class_structure(objective: Objective, only: Sequence[str] = (), budget: int | None = None) -> ClassStructure:
    """The class and the cross-class part of the Gauss-Newton matrix of a classifier.

    It takes a gradient for each pair of classes, on every batch, and holds ``C^2`` vectors of the size of the weights.

    Args:
        objective: the loss surface, at its origin; the loss must be cross-entropy over classes.
        only: layers or parameters by name, as for `vallis.numerics.curvature.GaussNewton`.
        budget: bytes that may be held; None takes half of what is free.

    Raises:
        UnknownPart: no parameter and no layer has one of these names.
        LossError: the loss is no cross-entropy, has class weights and label smoothing, or a negative class weight; or
            the targets are no classes.
        UsageError: there is no room for the vectors.
    """
    likelihood = _categorical(objective.loss)
    chosen = select(objective, only)
    sums: torch.Tensor | None = None
    weights = torch.zeros(0, 0, dtype=torch.float64)
    for term in objective.terms():
        for part, shares in _by_class(term, likelihood):
            with differentiating():
                leaves, scores = _scores(part, chosen)
                if sums is None:
                    sums = _room(scores.shape[-1], leaves, objective, budget)
                    weights = torch.zeros(sums.shape[:2], dtype=torch.float64, device=sums.device)
                _add(sums, weights, leaves, scores, part.batch.y.reshape(scores.shape[:2]), shares)
    if sums is None:
        raise UsageError("at least one batch was required, none came: give examples")
    return _structure(sums, weights)


def _categorical(loss: Loss) -> Likelihood:
    """What a cross-entropy counts; a log-likelihood of classes on anything but logits is none."""
    known, found = inner(loss), likelihood_of(loss)
    made_of = function_of(known.function) if isinstance(known, OwnLoss) else None
    on_logits = isinstance(known, CrossEntropy) or isinstance(made_of, nn.CrossEntropyLoss)
    if found is None or found.family != "categorical" or not (on_logits or made_of is functional.cross_entropy):
        raise LossError(
            "a cross-entropy over classes, with class weights or with label smoothing but not with both, was required, "
            f"{described(loss)} came: use CrossEntropyLoss()"
        )
    return found


def _structure(sums: torch.Tensor, weights: torch.Tensor) -> ClassStructure:
    """From ``w g_{c,c'}`` ``(C, C, P)`` and w ``(C, C)``."""
    num_classes = len(weights)
    apart = ~torch.eye(num_classes, dtype=torch.bool, device=weights.device)
    columns, deviations = [], []
    for c in range(num_classes):
        others = apart[c] & (weights[c] > 0)
        total = float(weights[c][others].sum())
        mean = sums[c][others].sum(0) / (total or 1.0)
        own = float(weights[c, c])
        # g_{c,c} = -(w_c / w_{c,c}) g_c: both terms are along g_c.
        columns.append(mean * (total + (total**2 / own if own > 0 else 0.0)) ** 0.5)
        for other in range(num_classes):
            if other != c:
                weight = float(weights[c, other])
                deviation = sums[c, other] / weight - mean if weight > 0 else torch.zeros_like(mean)
                deviations.append(deviation * weight**0.5)
    return ClassStructure(
        classes=LowRank(torch.stack(columns, 1)), cross=LowRank(torch.stack(deviations, 1)), weights=weights
    )


def _scores(term: Term, chosen: tuple[bool, ...]) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """The parameters that may move, and the scores ``(N, T, C)``."""
    objective = term.objective
    point = [value.detach().requires_grad_(moves) for value, moves in zip(objective.origin, chosen, strict=True)]
    found = objective.loss.scores(term.outputs(point))
    if found is None or found.ndim < 2:
        raise LossError(
            "scores of classes (N, C) were required, none came: say where with outputs=lambda returned: ..."
        )
    scores = found.flatten(2).transpose(1, 2) if found.ndim > 2 else found[:, None]
    return tuple(value for value in point if value.requires_grad), scores


def _by_class(term: Term, likelihood: Likelihood) -> Iterator[tuple[Term, torch.Tensor]]:
    """The batch, cut by class where its examples have one each, and what each target counts ``(N, T)``."""
    batch = term.batch
    y = batch.y
    if y.is_floating_point():
        raise LossError("classes as targets were required, probabilities came: take their argmax as the label")
    whole = _fixed_scores(term)
    found = likelihood.shares(whole.double().transpose(1, 2), y.reshape(whole.shape[:2]))
    shares = term.share * found[:, 0]
    if bool((shares < 0).any()):
        raise LossError("class weights that are not negative were required, one below zero came: give others")
    if y.ndim > 1 or tree.length(batch.x) != len(batch) or len(whole) != len(batch):
        yield term, shares
        return
    places = [(y == c).nonzero()[:, 0] for c in y[shares[:, 0] > 0].unique()]
    parts = [replace(term, batch=_taken(batch, rows)) for rows in places]
    if not _independent(whole, parts, places):
        yield term, shares
        return
    for part, rows in zip(parts, places, strict=True):  # a gradient of a class then costs its own examples alone
        yield part, shares[rows]


def _taken(batch: Batch, rows: torch.Tensor) -> Batch:
    return Batch(x=tree.take(batch.x, rows), y=batch.y[rows], index=batch.index[rows.to(batch.index.device)])


def _independent(whole: torch.Tensor, parts: Sequence[Term], places: Sequence[torch.Tensor]) -> bool:
    """Whether each part has the scores that it has in the whole batch; batch normalisation in training has others.

    A network that raises for a part is asked for the whole, which it took: what is wrong beside the cut shows there.
    """
    near = torch.finfo(whole.dtype).eps ** 0.5 * float(whole.abs().max())
    for part, rows in zip(parts, places, strict=True):
        try:
            alone = _fixed_scores(part)
        except (VallisError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, ValueError):  # batch normalisation refuses a single example
            return False
        if alone.shape != whole[rows].shape or not bool(((alone - whole[rows]).abs() <= near).all()):
            return False
    return True


def _fixed_scores(term: Term) -> torch.Tensor:
    with torch.no_grad():
        return _scores(term, (False,) * len(term.objective.names))[1]


def _add(
    sums: torch.Tensor,
    weights: torch.Tensor,
    leaves: tuple[torch.Tensor, ...],
    scores: torch.Tensor,
    labels: torch.Tensor,
    shares: torch.Tensor,
) -> None:
    p = scores.detach().softmax(-1)
    for c in labels[shares > 0].unique().tolist():
        mine = torch.where(labels == c, shares, 0.0).to(p.dtype)
        for other in range(scores.shape[-1]):
            w = mine * p[..., other]
            told = p.clone()
            told[..., other] -= 1
            found = pull((scores,), leaves, (told * w[..., None],))
            sums[c, other] += torch.cat([part.reshape(-1) for part in found])
            weights[c, other] += float(w.double().sum())


def _room(num_classes: int, leaves: tuple[torch.Tensor, ...], objective: Objective, budget: int | None) -> torch.Tensor:
    size = sum(leaf.numel() for leaf in leaves)
    left = spare_bytes(torch.device(objective.device)) // 2 if budget is None else budget
    needed = 2 * num_classes**2 * size * objective.dtype.itemsize
    if needed > left:
        raise UsageError(
            f"room for {num_classes} times {num_classes} vectors of {size} numbers was required, {left} of {needed} "
            "bytes are left: name some layers in only="
        )
    return torch.zeros(num_classes, num_classes, size, dtype=objective.dtype, device=objective.device)
