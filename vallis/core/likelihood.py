"""The probability that a loss gives to targets: which of them count, and how the slopes of new ones would spread.

Cross-entropy of scores z is ``-log p(y | z)`` with p = softmax(z), and of a single logit with p = sigmoid(z). Squared
error ``(z - y)²`` is that of a normal distribution around z with variance 1/2, up to a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from vallis.core.errors import LossError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from vallis.core.own_loss import OwnLoss, Picked, function_of, keyword_of

Family = Literal["categorical", "binary", "normal"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Likelihood:
    """A distribution of targets given scores; each counted target has one of its own, independent of the others.

    Attributes:
        family: "categorical" for classes, over axis 1 of the scores; "binary" and "normal" for one target a score.
        ignore_index: targets of this class do not count.
        class_weights: ``(C,)`` how often a target of each class counts; once each if None.
    """

    family: Family
    ignore_index: int | None = None
    class_weights: torch.Tensor | None = None

    def shares(self, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``(N, 1, ...)`` or ``(N, ...)`` what part of the batch's mean each target has; it multiplies scores.

        Raises:
            LossError: classes are weighted, and the targets are no classes.
        """
        if self.family != "categorical":
            return torch.full_like(scores, 1 / scores.numel())
        if y.is_floating_point():
            if self.class_weights is not None:
                raise LossError(
                    "targets that are classes were required beside class weights, probabilities came: leave one of both"
                )
            counts = torch.ones_like(scores[:, 0])
        else:
            y = y.long()  # bytes would be a mask of the weights
            counted = torch.ne(y, -1 if self.ignore_index is None else self.ignore_index)
            counts = counted.to(scores.dtype)
            if self.class_weights is not None:
                counts = counts * self.class_weights.to(scores)[y * counted]
        return (counts / counts.sum()).unsqueeze(1)

    def expected(self, scores: torch.Tensor) -> torch.Tensor:
        """What `bend` needs for the mean over all targets: their probabilities, or the square of a normal number."""
        if self.family == "categorical":
            return scores.softmax(1)
        return scores.sigmoid() if self.family == "binary" else torch.ones_like(scores)

    def drawn(self, scores: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """The same for targets that are drawn with numbers from [0, 1): one a target, in the order of the scores."""
        uniform = uniform.to(scores.device)
        if self.family == "categorical":
            steps = scores.double().softmax(1).cumsum(1)
            past = uniform.unsqueeze(1) * steps[:, -1:] >= steps
            return F.one_hot(past.sum(1), scores.shape[1]).movedim(-1, 1).to(scores.dtype)
        if self.family == "binary":
            return (uniform < scores.double().sigmoid()).to(scores.dtype)
        normal: torch.Tensor = torch.special.ndtri(uniform + 2.0**-54)  # never at 0 or 1
        return normal.square().to(scores.dtype)

    def bend(self, scores: torch.Tensor, found: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        """The mean of ``s (s · vector)`` over targets, s being the slope of ``-log p`` by the scores of one target.

        For classes ``s = p - e_y``, so all that the mean needs of the targets is how often each class came.

        Args:
            scores: z.
            found: a mean of what `drawn` gives, or what is `expected`.
            vector: of the shape of the scores.
        """
        if self.family == "normal":
            return 2 * found * vector
        if self.family == "binary":
            p = scores.sigmoid()
            return (p * p - 2 * p * found + found) * vector
        p = scores.softmax(1)
        along_p, along_found = (p * vector).sum(1, keepdim=True), (found * vector).sum(1, keepdim=True)
        return p * (along_p - along_found) + found * (vector - along_p)

    def targets_shape(self, scores: torch.Tensor) -> torch.Size:
        """The shape of the targets of one example."""
        return scores.shape[2:] if self.family == "categorical" else scores.shape[1:]


def likelihood_of(loss: Loss) -> Likelihood | None:
    """The distribution of targets whose negative logarithm the loss is; None where it is not known to be one.

    Label smoothing changes what the loss wants of the network and not what the network says, so it plays no part.
    """
    known: Any = loss.loss if isinstance(loss, Picked) else loss
    if isinstance(known, CrossEntropy):
        return Likelihood(family="categorical", ignore_index=known.ignore_index)
    if isinstance(known, BinaryCrossEntropy):
        return Likelihood(family="binary")
    if isinstance(known, SquaredError):
        return Likelihood(family="normal")
    return _of_torch(known.function) if isinstance(known, OwnLoss) else None


def mean_of_scores(loss: Loss, scores: torch.Tensor, y: Any) -> torch.Tensor:
    """The mean loss for scores as `Loss.scores` finds them, by a loss that has a likelihood."""
    if isinstance(loss, Picked):
        return loss.loss.mean(scores, y)
    return OwnLoss(function=loss.function).mean(scores, y) if isinstance(loss, OwnLoss) else loss.mean(scores, y)


def needed_likelihood(loss: Loss) -> Likelihood:
    """The distribution of targets.

    Raises:
        LossError: the loss is not known to be the logarithm of one.
    """
    found = likelihood_of(loss)
    if found is None:
        raise LossError(
            "a loss that is a log-likelihood was required for the Fisher matrix, "
            f"{described(loss)} came: hand in torch.nn.CrossEntropyLoss(), BCEWithLogitsLoss() or MSELoss() where it "
            "is one of them, with outputs= to pick the scores; else use GaussNewton or EmpiricalFisher"
        )
    return found


def has_class_weights(loss: Loss) -> bool:
    """Whether it is a cross-entropy of torch's in which classes count differently."""
    return (
        isinstance(loss, OwnLoss)
        and loss.kind == "categorical"
        and keyword_of(loss.function, "weight", None) is not None
    )


def described(loss: Loss) -> str:
    """A loss in a few words."""
    function = getattr(loss, "function", getattr(loss, "loss", loss))
    name = getattr(function_of(function), "__name__", type(function).__name__)
    weighted = any(keyword_of(function, key, None) is not None for key in ("weight", "pos_weight"))
    return f"{name} with weights" if weighted else name


def uniforms(rows: Sequence[torch.Generator], shape: torch.Size) -> torch.Tensor:
    """``(N, ...)`` float64 the next numbers in [0, 1) of each example's own generator."""
    return torch.stack([torch.rand(shape, generator=row, dtype=torch.float64, device="cpu") for row in rows])


def _of_torch(function: Any) -> Likelihood | None:
    """Torch's own losses, where something about them keeps them from being the house's: class weights, or a count."""
    weights = keyword_of(function, "weight", None)
    classes = (nn.CrossEntropyLoss, nn.NLLLoss)
    if isinstance(function, classes) or function_of(function) in (F.cross_entropy, F.nll_loss):
        smoothed = float(keyword_of(function, "label_smoothing", 0.0)) > 0
        if weights is not None and smoothed:  # then a target does not count as its class alone
            return None
        ignored = int(keyword_of(function, "ignore_index", -100))
        return Likelihood(family="categorical", ignore_index=ignored, class_weights=weights)
    if weights is not None or keyword_of(function, "pos_weight", None) is not None:
        return None
    if isinstance(function, nn.BCEWithLogitsLoss) or function_of(function) is F.binary_cross_entropy_with_logits:
        return Likelihood(family="binary")
    return Likelihood(family="normal") if isinstance(function, nn.MSELoss) or function is F.mse_loss else None
