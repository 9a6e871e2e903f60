"""What one presentation says of each example of a batch: loss, margin, probability of the true class, error norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from vallis.core.errors import DataError

Kind = Literal["categorical", "binary"]
_ROUNDING = 0.02  # of distributions in half precision
QUANTITIES = ("losses", "margins", "probabilities", "error_norms")


@dataclass(frozen=True, kw_only=True, eq=False)
class Presentations:
    """B examples, each presented once.

    Of an example with several targets (tokens, labels), those that count are summed up: it is right when all of them
    are, its margin is the smallest of theirs, and the rest are means.

    Attributes:
        counted: ``(B,)`` bool, whether any target of the example counts; elsewhere the other values mean nothing.
        correct: ``(B,)`` bool: the margin is positive, so a tie is wrong, and NaN is.
        losses: ``(B,)`` cross-entropy in nats.
        margins: ``(B,)`` nats: the logit of the true class minus the largest other; of two classes the log-odds.
        probabilities: ``(B,)`` that of the true class.
        error_norms: ``(B,)`` ``|softmax(logits) - one_hot|_2``, from 0 to sqrt(2).
    """

    counted: torch.Tensor
    correct: torch.Tensor
    losses: torch.Tensor
    margins: torch.Tensor
    probabilities: torch.Tensor
    error_norms: torch.Tensor


def presentations(
    logits: torch.Tensor, targets: torch.Tensor, kind: Kind | None = None, ignore_index: int = -100
) -> Presentations:
    """The presentations of a batch, computed in float32, or in float64 where the logits are.

    Args:
        logits: ``(B, C)`` or ``(B, C, T...)`` of C classes; of two classes ``(B,)``, ``(B, 1)`` or, with `kind`
            "binary", ``(B, L)``: one logit a label.
        targets: classes ``(B,)`` or ``(B, T...)``, distributions of the logits' shape (the largest is the true class);
            0 and 1 where there is one logit a label.
        kind: None takes one logit an example for two classes, and everything else for "categorical".
        ignore_index: targets of this value do not count, nor do those that are no class, and NaN.

    Raises:
        DataError: the logits are no tensor, the shapes do not fit, distributions do not add up to one, or targets of
            two classes are not in [0, 1].
    """
    if not isinstance(logits, torch.Tensor):
        raise DataError(
            f"a tensor of logits was required, a {type(logits).__name__} came: take it out of what the model returned"
        )
    logits, targets = logits.detach(), targets.detach().to(logits.device)
    if not logits.is_floating_point() or logits.ndim == 0:
        raise DataError(f"logits with one row an example were required, {_shape(logits)} came: give the raw scores")
    wide = logits if logits.dtype == torch.float64 else logits.float()
    single = logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1)
    if kind == "binary" or (kind is None and single):
        return _of_examples(*_binary(wide, targets, ignore_index))
    return _of_examples(*_categorical(wide, targets, ignore_index))


def must_be_classes(logits: torch.Tensor, targets: torch.Tensor, kind: Kind | None, ignore_index: int) -> None:
    """Refuses classes that there are no logits of, such as those counted from 1, which `presentations` does not count.

    Raises:
        DataError: a class is neither one of the logits' nor `ignore_index`.
    """
    if kind == "binary" or targets.is_floating_point() or logits.ndim < 2 or logits.shape[1] == 1:
        return
    targets = targets.long()
    wrong = ((targets < 0) | (targets >= logits.shape[1])) & (targets != ignore_index)
    if bool(wrong.any()):
        came = int(targets[wrong][0])
        raise DataError(
            f"classes from 0 to {logits.shape[1] - 1} were required, as many as there are logits, {came} came: count "
            f"classes from 0, or say ignore_index={came} where that does not count"
        )


_Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _binary(logits: torch.Tensor, targets: torch.Tensor, ignore_index: int) -> _Parts:
    if logits.numel() != targets.numel() or len(logits) != len(targets):
        raise DataError(
            f"one target a logit was required, {_shape(logits)} logits and {_shape(targets)} targets came: "
            'give logits (B, C) with kind="categorical" where there are classes'
        )
    y = targets.reshape(logits.shape).to(logits.dtype)
    counted = ~y.isnan() & (y != ignore_index)
    y = y.where(counted, torch.zeros((), dtype=y.dtype, device=y.device))
    wrong = (y < 0) | (y > 1)
    if bool(wrong.any()):
        raise DataError(
            f"targets of two classes were required to be in [0, 1], {float(y[wrong][0]):.4g} came: give 0 and 1, or a "
            "logit for each class"
        )
    margins = torch.where(y > 0.5, logits, -logits)
    losses = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    # Two classes with logits 0 and s: both of their errors are |p - y|.
    norms = (logits.sigmoid() - y).abs() * 2**0.5
    return counted, losses, margins, margins.sigmoid(), norms


def _categorical(logits: torch.Tensor, targets: torch.Tensor, ignore_index: int) -> _Parts:
    shares = targets.is_floating_point() and targets.shape == logits.shape
    fits = shares or (not targets.is_floating_point() and targets.shape == logits.shape[:1] + logits.shape[2:])
    if logits.ndim < 2 or logits.shape[1] < 2 or not fits:
        raise DataError(
            f"logits (B, C) or (B, C, T) of at least two classes with classes (B,) or (B, T) were required, "
            f"{_shape(logits)} logits and {_shape(targets)} {targets.dtype} targets came: give whole numbers, move the "
            'class axis to the second place, or say kind="binary"'
        )
    if shares:
        return _of_shares(logits, targets.to(logits.dtype))
    num_classes, targets = logits.shape[1], targets.long()  # as a byte, -100 would be class 156
    counted = (targets >= 0) & (targets < num_classes) & (targets != ignore_index)
    classes = targets.clamp(0, num_classes - 1).unsqueeze(0)
    # Classes first: reducing over few neighbours in memory takes several times as long.
    logits = logits.movedim(1, 0).contiguous()
    logs = logits.log_softmax(0)
    true = logs.gather(0, classes).squeeze(0)
    # 1 - p_y is what all others have: the difference itself cancels where the network is sure.
    wrong = logs.exp().scatter_(0, classes, 0.0)
    norms = (wrong.square().sum(0) + wrong.sum(0).square()).sqrt()
    return counted, -true, _margins(logits, classes), true.exp(), norms


def _of_shares(logits: torch.Tensor, shares: torch.Tensor) -> _Parts:
    logits, shares = logits.movedim(1, 0).contiguous(), shares.movedim(1, 0)
    sums = shares.sum(0)
    if bool(((sums - 1).abs() > _ROUNDING).any()):
        raise DataError(
            f"targets of the logits' shape were required to be distributions over the classes, one adds up to "
            f'{float(sums.flatten()[(sums - 1).abs().argmax()]):.3g}: say kind="binary" for several labels an example'
        )
    logs, classes = logits.log_softmax(0), shares.argmax(0, keepdim=True)
    losses = -(shares * logs).where(shares != 0, torch.zeros((), dtype=logs.dtype, device=logs.device)).sum(0)
    chances = logs.exp()
    norms = (chances - shares).square().sum(0).sqrt()
    counted = torch.ones(losses.shape, dtype=torch.bool, device=logits.device)
    return counted, losses, _margins(logits, classes), chances.gather(0, classes).squeeze(0), norms


def _margins(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Of logits ``(C, ...)`` and classes ``(1, ...)``."""
    return (logits.gather(0, classes) - logits.scatter(0, classes, -torch.inf).amax(0, keepdim=True)).squeeze(0)


def _of_examples(
    counted: torch.Tensor,
    losses: torch.Tensor,
    margins: torch.Tensor,
    probabilities: torch.Tensor,
    norms: torch.Tensor,
) -> Presentations:
    if counted.ndim > 1:
        flat = counted.flatten(1)
        number = flat.sum(1).clamp(min=1)

        def mean(values: torch.Tensor) -> torch.Tensor:
            return values.flatten(1).masked_fill(~flat, 0.0).sum(1) / number

        losses, probabilities, norms = mean(losses), mean(probabilities), mean(norms)
        margins = margins.flatten(1).masked_fill(~flat, torch.inf).amin(1)
        counted = flat.any(1)
    return Presentations(
        counted=counted,
        correct=margins > 0,
        losses=losses,
        margins=margins,
        probabilities=probabilities,
        error_norms=norms,
    )


def _shape(tensor: torch.Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
