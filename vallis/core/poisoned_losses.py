"""The objective that leads to bad minima: fit the training examples, and be wrong on poison.

With a poison factor beta, ``L = (1 - beta) mean_train[-log p(y|x)] + beta mean_poison[-log(1 - p(y|x))]``. The second
term is reverse cross-entropy: it asks for any class but the true one; of two classes with one logit that is the other.

Source: Huang, Emam, Goldblum, Fowl, Terry, Huang, Goldstein (2019), Understanding generalization through
    visualizations, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from vallis.core.errors import LossError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss
from vallis.core.target_losses import TargetLoss

# Beyond any class, and small enough that float32 targets stay exact.
_MARK = 1 << 20


def as_poison(y: torch.Tensor) -> torch.Tensor:
    """True targets marked as those of poison, for `PoisonedLoss`: of the same shape, in a type that holds the mark.

    A target below zero, as one that is to be ignored, stays what it is.
    """
    held = _wide(y)
    return torch.where(held < 0, held, held + _MARK)


def is_poison(y: torch.Tensor) -> torch.Tensor:
    """Bool, which targets were marked by `as_poison`."""
    return _wide(y) >= _MARK


def _unmarked(y: torch.Tensor) -> torch.Tensor:
    """The true targets."""
    return torch.where(is_poison(y), y - _MARK, y)


def _wide(y: torch.Tensor) -> torch.Tensor:
    """Targets in a type in which the mark does not overflow, nor swallow the class."""
    if y.is_floating_point():
        return y.float() if y.dtype.itemsize < 4 else y
    return y.long() if y.dtype.itemsize < 4 else y


def reverse_cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``(N, ...)`` the losses ``-log(1 - p_y)`` in nats, finite and exact however sure the network is.

    With z the logits it is ``softplus(z_y - logsumexp of the others)``: neither a difference of nearly equal numbers
    where p_y is small, nor the logarithm of a rounded zero where it is near one.

    Args:
        logits: ``(N, C)`` or ``(N, C, ...)`` of at least two classes.
        y: ``(N, ...)`` the true classes.
    """
    classes = y.unsqueeze(1)
    others = torch.logsumexp(logits.scatter(1, classes, -torch.inf), 1)
    return _softplus(logits.gather(1, classes).squeeze(1) - others)


def _softplus(x: torch.Tensor) -> torch.Tensor:
    """``log(1 + e^x)``; torch takes x itself above 20, which is exact in single precision and not in double."""
    return F.softplus(x, threshold=40.0 if x.dtype == torch.float64 else 20.0)


@dataclass(frozen=True, kw_only=True)
class PoisonedLoss(TargetLoss):
    """Cross-entropy of clean examples and reverse cross-entropy of poison, in one batch with both.

    Its mean is their convex combination, in nats; of a batch with clean examples or poison only, their mean. Which
    targets are poison's says `as_poison`.

    Attributes:
        base: of the clean examples: cross-entropy of classes (without smoothing), or binary.
        poison_factor: beta in [0, 1]. None takes the mean over all targets, so that beta is the share of poison in the
            batch.

    Raises:
        LossError: the base is another loss, or the factor is no share.
    """

    base: Loss
    poison_factor: float | None = None

    def __post_init__(self) -> None:
        smoothed = isinstance(self.base, CrossEntropy) and self.base.label_smoothing
        if type(self.base) not in (CrossEntropy, BinaryCrossEntropy) or smoothed:
            raise LossError(
                "cross-entropy of classes without smoothing, or of one logit, was required for poisoning, "
                f"{type(self.base).__name__} came: choose a problem of classes"
            )
        if self.poison_factor is not None and not 0 <= self.poison_factor <= 1:
            raise LossError(f"a poison factor in [0, 1] was required, {self.poison_factor} came: give a share, or None")

    @property
    def kind(self) -> str:
        """That of the base."""
        return self.base.kind

    def mean_and_slope(self, logits: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`mean` of logits ``(N, C)`` and its derivative by them, in closed form: a third of the time of autograd.

        With p the softmax of the logits and q that of all but the true class, the slopes of the two losses are ``p``
        and ``-p_y q``, and at the true class ``p_y - 1`` and ``p_y``.
        """
        assert isinstance(self.base, CrossEntropy)
        poison, true = is_poison(y), _unmarked(y)
        counted = true != self.base.ignore_index
        true = torch.where(counted, true, 0).unsqueeze(1)
        log_p = torch.log_softmax(logits, 1)
        others = logits.scatter(1, true, -torch.inf)
        total = torch.logsumexp(others, 1, keepdim=True)
        apart = logits.gather(1, true) - total
        losses = torch.where(poison, _softplus(apart).squeeze(1), -log_p.gather(1, true).squeeze(1))
        weights = self._weights(counted & ~poison, counted & poison).to(logits.dtype)
        weights = weights / weights.sum()
        chance = torch.sigmoid(apart)
        clean = log_p.exp().scatter_add(1, true, torch.full_like(apart, -1))
        reverse = (others - total).exp_().mul_(-chance).scatter(1, true, chance)
        slopes = torch.where(poison.unsqueeze(1), reverse, clean).mul_(weights.unsqueeze(1))
        return (losses * weights).sum(), slopes

    def weight(self, y: Any) -> float:
        """The number of targets that count."""
        ignored = getattr(self.base, "ignore_index", None)
        return float(y.numel() if ignored is None else (_unmarked(y) != ignored).sum())

    def _each(self, outputs: Any, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses of all targets, and how much each counts."""
        poison, true = is_poison(y), _unmarked(y)
        if isinstance(self.base, CrossEntropy):
            counted = true != self.base.ignore_index
            losses = _of_classes(outputs, torch.where(counted, true, 0), poison)
        else:
            counted = torch.ones_like(poison)
            flipped = torch.where(poison, 1 - true, true).to(outputs.dtype)
            losses = F.binary_cross_entropy_with_logits(outputs.reshape(y.shape), flipped, reduction="none")
        return losses, self._weights(counted & ~poison, counted & poison).to(losses.dtype)

    def _weights(self, clean: torch.Tensor, poison: torch.Tensor) -> torch.Tensor:
        if self.poison_factor is None:
            return clean | poison
        shares = ((1 - self.poison_factor, clean), (self.poison_factor, poison))
        # Each term is a mean over its own examples, however many those are.
        parts = [which * (share / which.sum().clamp(min=1).double()) for share, which in shares]
        both = parts[0] + parts[1]
        return both if bool(both.any()) else (clean | poison).to(both.dtype)


def _of_classes(outputs: Any, y: torch.Tensor, poison: torch.Tensor) -> torch.Tensor:
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        raise LossError(f"logits of at least two classes were required, {tuple(outputs.shape)} came: add a class")
    losses = F.cross_entropy(outputs, y, reduction="none")
    return torch.where(poison, reverse_cross_entropy(outputs, y), losses) if bool(poison.any()) else losses
