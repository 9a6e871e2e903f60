"""Losses: a mean over counted units (examples, or tokens that count), in nats, and what it is for each example.

The loss of a data set is ``sum_b w_b L_b / sum_b w_b`` over batches b, with `w_b` the number of counted units, so that
neither a ragged last batch nor a batch with few counted tokens changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from vallis.core import tree


class Loss(Protocol):
    """What outputs cost against targets."""

    def mean(self, outputs: Any, y: Any) -> torch.Tensor:
        """The scalar mean over the batch's counted units."""
        ...

    def weight(self, y: Any) -> float:
        """How much the batch counts: the number of units in the mean."""
        ...

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """``(N,)`` each example's own mean, and ``(N,)`` its weight: ``mean = (w * l).sum() / w.sum()``.

        Raises:
            LossError: the loss cannot be taken apart.
        """
        ...

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """The real-valued predictions ``(N, C)``, ``(N, C, T)`` or ``(N,)`` that it judges, where there are such."""
        ...

    @property
    def kind(self) -> str:
        """One of "categorical" (scores are logits of C classes), "binary" (a logit each) and "other"."""
        ...


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy of logits ``(N, C)`` or ``(N, C, T)`` with classes ``(N,)`` or ``(N, T)``.

    Targets may be probabilities of the logits' own shape, too.

    Attributes:
        label_smoothing: the share of the target spread evenly over all classes.
        ignore_index: targets with this value do not count.
    """

    label_smoothing: float = 0.0
    ignore_index: int = -100

    kind = "categorical"

    def mean(self, outputs: Any, y: Any) -> torch.Tensor:
        """The mean over targets that count."""
        return F.cross_entropy(outputs, y, label_smoothing=self.label_smoothing, ignore_index=self.ignore_index)

    def weight(self, y: Any) -> float:
        """The number of targets that count."""
        return float(self._counted(y).sum())

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Each example's mean over its targets that count."""
        losses = F.cross_entropy(
            outputs, y, label_smoothing=self.label_smoothing, ignore_index=self.ignore_index, reduction="none"
        )
        return mean_of_rows(losses, self._counted(y).to(losses.dtype))

    def _counted(self, y: torch.Tensor) -> torch.Tensor:
        if y.is_floating_point():  # class probabilities (N, C, ...): all count, the class axis is summed over
            return torch.ones(y.shape[:1] + y.shape[2:], dtype=torch.bool, device=y.device)
        return is_counted(y, self.ignore_index)

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """The logits."""
        return find_scores(outputs)


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy:
    """Cross-entropy of one logit an example, ``(N,)`` or ``(N, 1)``, with targets 0 or 1 of as many elements."""

    kind = "binary"

    def mean(self, outputs: Any, y: Any) -> torch.Tensor:
        """The mean over examples."""
        return F.binary_cross_entropy_with_logits(outputs.reshape(y.shape), y.to(outputs.dtype))

    def weight(self, y: Any) -> float:
        """The number of examples."""
        return float(y.numel())

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Each example's loss."""
        losses = F.binary_cross_entropy_with_logits(outputs.reshape(y.shape), y.to(outputs.dtype), reduction="none")
        return mean_of_rows(losses, torch.ones_like(losses))

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """The logits."""
        return find_scores(outputs)


@dataclass(frozen=True, kw_only=True)
class SquaredError:
    """Mean squared error over all elements of the targets."""

    kind = "other"

    def mean(self, outputs: Any, y: Any) -> torch.Tensor:
        """The mean over elements."""
        return F.mse_loss(outputs, y.to(outputs.dtype))

    def weight(self, y: Any) -> float:
        """The number of elements."""
        return float(y.numel())

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Each example's mean over its elements."""
        losses = F.mse_loss(outputs, y.to(outputs.dtype), reduction="none")
        return mean_of_rows(losses, torch.ones_like(losses))

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """The predictions."""
        return find_scores(outputs)


def find_scores(outputs: Any) -> torch.Tensor | None:
    """The tensor of predictions in what a model returned: itself, ``logits``, or the only floating tensor in it."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    named = outputs.get("logits") if hasattr(outputs, "get") else getattr(outputs, "logits", None)
    if isinstance(named, torch.Tensor):
        return named
    floating = [leaf for leaf in tree.tensors(outputs) if leaf.is_floating_point() and leaf.ndim > 0]
    return floating[0] if len(floating) == 1 else None


def is_counted(y: torch.Tensor, ignored: int) -> torch.Tensor:
    """Where classes of any type of whole numbers are not the one that is ignored: as a byte, -100 would be 156."""
    return y.long() != ignored


def mean_of_rows(losses: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``(N,)`` the weighted mean of each row and ``(N,)`` its total weight; a row that counts nothing has mean 0."""
    losses, counts = losses.flatten(1) if losses.ndim > 1 else losses[:, None], counts.reshape(len(counts), -1)
    total = counts.sum(1)
    return (losses * counts).sum(1) / total.clamp(min=torch.finfo(total.dtype).tiny), total
