"""Signed margins: by how much the score of the true class exceeds the largest other score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vallis.core.losses import Loss


@dataclass(frozen=True, eq=False)
class Judged:
    """The M counted targets of a batch.

    Attributes:
        margins: ``(M,)`` float64; positive exactly where the answer is right, a tie is wrong.
        rows: ``(M,)`` which example of the batch each belongs to.
        classes: ``(M,)`` the true classes.
        num_classes: C.
    """

    margins: torch.Tensor
    rows: torch.Tensor
    classes: torch.Tensor
    num_classes: int


def judge(loss: Loss, outputs: Any, y: Any) -> Judged | None:
    """The signed margins of a batch; None where nothing is classified.

    Scores of C classes ``(N, C)`` or ``(N, C, T)`` are judged against classes ``(N,)`` or ``(N, T)``, or against
    distributions of the scores' own shape by their largest entry. A target that the loss ignores, or that is no class,
    does not count. A score ``(N,)`` for two classes is judged by its sign.
    """
    scores = loss.scores(outputs)
    if scores is None or not isinstance(y, torch.Tensor) or not scores.is_floating_point():
        return None
    if loss.kind == "binary" and scores.numel() == y.numel() and y.ndim > 0:
        return _of_two(scores.double().reshape(-1), y.reshape(-1) > 0.5, len(y))
    if loss.kind != "categorical" or scores.ndim < 2 or scores.shape[1] < 2:
        return None
    if y.is_floating_point() and y.shape == scores.shape:
        y = y.argmax(1)
    if y.is_floating_point() or y.shape != scores.shape[:1] + scores.shape[2:]:
        return None
    return _of_many(scores.double().movedim(1, -1), y, ignored_target(loss))


def ignored_target(loss: Loss) -> int | None:
    """The target that a loss does not count, if it has one."""
    held: Any = loss
    for name in ("loss", "function", "func"):  # from a wrapper to what it wraps
        keywords = getattr(held, "keywords", {})
        if "ignore_index" in keywords:
            return int(keywords["ignore_index"])
        held = getattr(held, name, held)
    found = getattr(held, "ignore_index", None)
    return None if found is None else int(found)


def _of_two(scores: torch.Tensor, positive: torch.Tensor, num_examples: int) -> Judged:
    rows = torch.arange(num_examples, device=scores.device).repeat_interleave(scores.numel() // max(1, num_examples))
    return Judged(torch.where(positive, scores, -scores), rows, positive.long(), 2)


def _of_many(scores: torch.Tensor, y: torch.Tensor, ignored: int | None) -> Judged:
    num_classes, y = scores.shape[-1], y.long()
    counted = (y >= 0) & (y < num_classes)
    if ignored is not None:
        counted &= y != ignored
    rows = torch.arange(len(y), device=y.device).reshape(-1, *[1] * (y.ndim - 1)).expand_as(y)[counted]
    scores, classes = scores[counted], y[counted]
    true = scores.gather(1, classes[:, None])[:, 0]
    others = scores.scatter(1, classes[:, None], -torch.inf).amax(1)
    return Judged(true - others, rows, classes, num_classes)
