"""Brings a user's loss in: a function of outputs and targets that returns a mean, as people write it.

Torch's own losses are recognised, so that what they count is known exactly. Any other function is believed to be a
mean over examples (or over what `weight` counts) and is put to the proof on the user's first batches.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from vallis.core import tree
from vallis.core.errors import DataError, LossError, VallisError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError, find_scores
from vallis.core.target_losses import ClassLoss

# Torch takes their mean over all elements of the targets, however many an example has.
_ELEMENTWISE = (
    *(nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss),
    *(nn.PoissonNLLLoss, nn.KLDivLoss),
)
_ELEMENTWISE_FUNCTIONS = (
    *(F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits),
    *(F.poisson_nll_loss, F.kl_div),
)


@dataclass(frozen=True, kw_only=True)
class OwnLoss:
    """A user's mean-reduced loss.

    Attributes:
        function: ``(outputs, targets) -> scalar``.
        count: ``targets -> number``, what the mean is over; None counts examples.
        pick: from what the model returns to what the function takes; None hands it over as it is.
        kind: see `vallis.core.losses.Loss`.
        unit: of the mean; None is nats where classes are judged by their scores.
    """

    function: Callable[[Any, Any], Any]
    count: Callable[[Any], Any] | None = None
    pick: Callable[[Any], Any] | None = None
    kind: str = "other"
    unit: str | None = None

    def mean(self, outputs: Any, y: Any) -> torch.Tensor:
        """The scalar the function returns.

        Raises:
            LossError: it raised, or returned something else.
            DataError: a target is out of range.
        """
        picked = _picked(self.pick, outputs)
        try:
            value = _like(self.function, picked)(picked, y)
        except VallisError:
            raise
        except IndexError as error:
            raise DataError(
                f"targets that the loss accepts were required, for outputs {shapes(picked)} it raised IndexError: "
                f"{_first_line(error)}; check the labels or the width of the last layer"
            ) from error
        except Exception as error:
            raise LossError(
                f"outputs and targets that the loss takes were required, {shapes(picked)} and {shapes(y)} came and it "
                f"raised {type(error).__name__}: {_first_line(error)}; use outputs= to pick what it takes"
            ) from error
        if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.is_floating_point():
            came = f"a tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
            raise LossError(
                f"a loss that returns one floating number (its mean) was required, {came} came: "
                "reduce it with .mean() or reduction='mean'"
            )
        return value.reshape(())

    def weight(self, y: Any) -> float:
        """What `count` says of the targets; the number of examples without it.

        Raises:
            LossError: the targets cannot be counted.
        """
        if self.count is None:
            size, leaves = tree.length(y), tree.tensors(y)
            if size is None and not (leaves and all(leaf.ndim == 0 for leaf in leaves)):  # numbers: a single example
                raise LossError(
                    f"targets with one row an example were required, {shapes(y)} came: say which with "
                    "targets=lambda batch: ..., or what they count with weight=lambda targets: ..."
                )
            return 1.0 if size is None else float(size)
        try:
            return float(self.count(y))
        except Exception as error:
            raise LossError(
                f"weight= must turn targets {shapes(y)} into a number, it raised {type(error).__name__}: "
                f"{_first_line(error)}; for tokens: weight=lambda y: (y != ignore_index).sum()"
            ) from error

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """One call of the function an example.

        Raises:
            LossError: outputs or targets have no example axis.
        """
        size, picked, plain = tree.length(y), _picked(self.pick, outputs), replace(self, pick=None)
        if size is None or tree.length(picked) != size:
            raise LossError(
                f"outputs and targets with one row an example were required, {shapes(picked)} and {shapes(y)} came: "
                "the loss cannot be taken apart into examples"
            )
        losses, weights = [], []
        for i in range(size):
            here = torch.tensor([i], device="cpu")
            target = tree.take(y, here)
            weight = self.weight(target)
            weights.append(weight)
            losses.append(float(plain.mean(tree.take(picked, here), target).detach()) if weight > 0 else 0.0)
        like = next(leaf for leaf in tree.tensors(picked) if leaf.is_floating_point() or leaf.is_complex())
        dtype, device = like.dtype.to_real(), like.device
        return torch.tensor(losses, dtype=dtype, device=device), torch.tensor(weights, dtype=dtype, device=device)

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """The predictions in what the model returned, where they can be told."""
        return find_scores(_picked(self.pick, outputs))


@dataclass(frozen=True, kw_only=True)
class Picked:
    """One of the house's losses on a part of what the model returns."""

    loss: Loss
    pick: Callable[[Any], Any] | None = None

    @property
    def kind(self) -> str:
        """The kind of the loss itself."""
        return self.loss.kind

    def mean(self, outputs: Any, y: Any) -> torch.Tensor:
        """See `Loss.mean`.

        Raises:
            LossError: outputs and targets do not fit.
        """
        scores = self._needed(outputs)
        if isinstance(self.loss, SquaredError) and scores.shape != y.shape:
            raise LossError(
                f"outputs and targets of one shape were required, {shapes(scores)} and {shapes(y)} came: "
                "torch would broadcast them against each other, so reshape the targets"
            )
        try:
            return self.loss.mean(scores, y)
        except Exception as error:
            raise LossError(
                f"outputs and targets that fit the loss were required, {shapes(scores)} and {shapes(y)} came and it "
                f"raised {type(error).__name__}: {_first_line(error)}; check their shapes and types"
            ) from error

    def weight(self, y: Any) -> float:
        """See `Loss.weight`.

        Raises:
            LossError: the targets cannot be counted.
        """
        try:
            return self.loss.weight(y)
        except Exception as error:
            raise LossError(
                f"targets in a tensor were required, {shapes(y)} came: turn them into numbers, or pick them with "
                "targets=lambda batch: ..."
            ) from error

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Loss.per_example`."""
        return self.loss.per_example(self._needed(outputs), y)

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """The predictions."""
        return find_scores(_picked(self.pick, outputs))

    def _needed(self, outputs: Any) -> torch.Tensor:
        scores = self.scores(outputs)
        if scores is None:
            raise LossError(
                f"a model that returns a tensor (or something with logits) was required, {shapes(outputs)} came: "
                "say where the predictions are with outputs=lambda returned: ..."
            )
        return scores


def adapt(loss: Any, count: Callable[[Any], Any] | int | None = None, pick: Callable[[Any], Any] | None = None) -> Loss:
    """A user's loss as a `Loss`.

    Args:
        loss: a torch loss module or function with reduction "mean", or any ``(outputs, targets) -> scalar mean``.
        count: what the mean is over, ``targets -> number``; an integer is the ignore_index of class targets.
        pick: from what the model returns to what the loss takes.

    Raises:
        LossError: it is not callable, or not mean-reduced.
    """
    if isinstance(loss, (CrossEntropy, BinaryCrossEntropy, SquaredError, ClassLoss)):
        return Picked(loss=loss, pick=pick)
    if isinstance(loss, (OwnLoss, Picked)):
        return replace(loss, pick=pick) if pick else loss
    if isinstance(loss, type):
        raise LossError(
            f"a loss that can be called was required, the class {loss.__name__} came: write {loss.__name__}()"
        )
    if not callable(loss):
        raise LossError(
            f"a loss (outputs, targets) -> mean was required, a {type(loss).__name__} came: give a function"
        )
    reduction = keyword_of(loss, "reduction", "mean")
    if reduction not in ("mean", "batchmean"):
        raise LossError(
            f"a mean over the batch was required, a loss with reduction={reduction!r} came: use reduction='mean'"
        )
    if isinstance(count, int):
        ignored = count
        count = lambda y: (y != ignored).sum()  # noqa: E731
    known = _known(loss) if count is None else None
    if known is not None:
        return Picked(loss=known, pick=pick)
    torch_made = isinstance(loss, nn.modules.loss._Loss) or function_of(loss) in vars(F).values()
    return OwnLoss(
        function=_kept(loss),
        count=count or _count_of(loss),
        pick=pick or (_predictions if torch_made else None),
        kind=_kind_of(loss),
    )


def shapes(held: Any) -> str:
    """A tree in words: shapes of its tensors, the type of anything else."""
    if isinstance(held, torch.Tensor):
        return f"{tuple(held.shape)} {str(held.dtype).removeprefix('torch.')}"
    found = ", ".join(str(tuple(leaf.shape)) for leaf in tree.tensors(held))
    if not found and isinstance(held, (list, tuple)) and held:
        return f"a {type(held).__name__} of {len(held)} {type(held[0]).__name__}"
    return f"{type(held).__name__}({found})"


def _known(loss: Any) -> Loss | None:
    if keyword_of(loss, "weight", None) is not None or keyword_of(loss, "pos_weight", None) is not None:
        return None
    if isinstance(loss, nn.CrossEntropyLoss) or function_of(loss) is F.cross_entropy:
        return CrossEntropy(
            label_smoothing=float(keyword_of(loss, "label_smoothing", 0.0)),
            ignore_index=int(keyword_of(loss, "ignore_index", -100)),
        )
    if isinstance(loss, nn.MSELoss) or function_of(loss) is F.mse_loss:
        return SquaredError()
    if isinstance(loss, nn.BCEWithLogitsLoss) or function_of(loss) is F.binary_cross_entropy_with_logits:
        return BinaryCrossEntropy()
    return None


def _count_of(loss: Any) -> Callable[[Any], Any] | None:
    """What the remaining losses of torch take their mean over."""
    if isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)) or function_of(loss) in (F.cross_entropy, F.nll_loss):
        ignored, weights = int(keyword_of(loss, "ignore_index", -100)), keyword_of(loss, "weight", None)

        def count(y: torch.Tensor) -> Any:
            if y.is_floating_point():  # class probabilities (N, C, ...): torch divides by N, class weights or not
                return y.numel() / y.shape[1]
            counted = y.long()[y.long() != ignored]
            if weights is None:
                return counted.numel()
            return weights.to(counted.device, torch.float64)[counted].sum()

        return count
    elementwise = isinstance(loss, _ELEMENTWISE) or function_of(loss) in _ELEMENTWISE_FUNCTIONS
    return torch.numel if elementwise and keyword_of(loss, "reduction", "mean") == "mean" else None


def _kept(loss: Any) -> Any:
    """A copy of a loss module in eval mode: the caller may go on training its parameters and buffers."""
    return copy.deepcopy(loss).eval() if isinstance(loss, nn.Module) else loss


def _kind_of(loss: Any) -> str:
    if isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)) or function_of(loss) in (F.cross_entropy, F.nll_loss):
        return "categorical"
    if isinstance(loss, nn.BCEWithLogitsLoss) or function_of(loss) is F.binary_cross_entropy_with_logits:
        return "binary"
    return "other"


def function_of(loss: Any) -> Any:
    """What a partial function is made of; anything else is itself."""
    return loss.func if isinstance(loss, functools.partial) else loss


def keyword_of(loss: Any, name: str, default: Any) -> Any:
    """A setting of a loss module or of a partial function."""
    if isinstance(loss, functools.partial):
        return loss.keywords.get(name, default)
    return getattr(loss, name, default) if isinstance(loss, nn.Module) else default


def _like(function: Callable[[Any, Any], Any], outputs: Any) -> Callable[[Any, Any], Any]:
    """A loss module with class weights follows the predictions to their device and dtype."""
    if isinstance(function, nn.Module) and isinstance(outputs, torch.Tensor):
        held = [*function.buffers(), *function.parameters()]
        if any(own.dtype != outputs.dtype or own.device != outputs.device for own in held):
            return copy.deepcopy(function).to(outputs)
    return function


def _predictions(outputs: Any) -> Any:
    found = find_scores(outputs)
    return outputs if found is None else found


def _picked(pick: Callable[[Any], Any] | None, outputs: Any) -> Any:
    if pick is None:
        return outputs
    try:
        return pick(outputs)
    except Exception as error:
        raise LossError(
            f"outputs= must pick predictions from what the model returns, {shapes(outputs)} came and it raised "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
