"""Networks that mix the examples of a batch: what they say of one depends on the others, in eval mode, too."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vallis.core.errors import LossError, ModelError
from vallis.core.losses import Loss
from vallis.core.objective import Objective

_MIXED = 1e-3  # by so much of the largest no rounding moves answers where a batch is cut


def must_normalise_alone(module: nn.Module) -> None:
    """Says which layer makes an answer depend on the other examples of its batch, in eval mode, too.

    Raises:
        ModelError: a layer normalises by the batch at hand.
    """
    mixing = (
        name for name, part in module.named_modules() if isinstance(part, _BatchNorm) and part.running_mean is None
    )
    found = next(mixing, None)
    if found is not None:
        raise ModelError(
            f"a model that answers to each example alone was required, {found} is a batch normalisation without "
            "running statistics, which mixes the examples of a batch in eval mode, too: set track_running_stats=True "
            "and let it see the data once in train mode, or use GroupNorm"
        )


def must_answer_alone(objective: Objective, loss: Loss, whole: Any, parts: Sequence[Any], split: str) -> None:
    """Refuses a model whose answers depend on the other examples, where all losses are too small to show it.

    Args:
        objective: of the model.
        loss: its scores are compared; where it has none, nothing is.
        whole: what the model returned for a batch.
        parts: what it returned for the parts of it, in order.
        split: which the batch is of.

    Raises:
        ModelError: the answers to the parts are others.
    """
    try:
        one, *others = (loss.scores(answer) for answer in (whole, *parts))
    except LossError:
        return
    if one is None or any(scores is None or scores.ndim != one.ndim for scores in others):
        return
    apart = []
    for axis in range(min(2, one.ndim)):
        with suppress(RuntimeError, TypeError):  # the examples do not lie along this axis
            joined = torch.cat(others, axis)  # type: ignore[arg-type]
            apart += [_share_apart(joined, one)] if joined.shape == one.shape else []
    if apart and min(apart) > (_MIXED if one.dtype.itemsize >= 4 else 16 * _MIXED):
        raise ModelError(
            "a model that answers to each example alone was required, the answers of "
            f"{type(objective.module).__name__} to a batch of {split} change by {min(apart):.2g} of the largest where "
            "it is cut in two: keep examples from mixing in the model"
        )


def _share_apart(one: torch.Tensor, two: torch.Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    real = (torch.view_as_real(held) if held.is_complex() else held for held in (one, two))
    found, expected = (held.double().nan_to_num(0, 0, 0) for held in real)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-300)) if one.numel() else 0.0
