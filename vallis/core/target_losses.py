"""What losses share that are computed target by target, some of which may not count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from vallis.core.errors import LossError
from vallis.core.losses import find_scores, is_counted, mean_of_rows


class TargetLoss(ABC):
    """A `vallis.core.losses.Loss` whose mean weighs the losses of single targets."""

    def mean(self, outputs: Any, y: Any) -> torch.Tensor:
        """The scalar weighted mean over targets; NaN where none counts.

        Raises:
            LossError: the outputs are no scores of the classes, or the targets are no classes of them.
        """
        losses, weights = self._each(outputs, y)
        return (losses * weights).sum() / weights.sum()

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """``(N,)`` each example's weighted mean over its targets, and ``(N,)`` its weight in `mean`.

        Raises:
            LossError: see `mean`.
        """
        return mean_of_rows(*self._each(outputs, y))

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """The scores."""
        return find_scores(outputs)

    @abstractmethod
    def _each(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses of all targets, finite also where one does not count, and how much each counts."""


class ClassLoss(TargetLoss):
    """One of scores ``(N, C)`` or ``(N, C, T)`` beside classes ``(N,)`` or ``(N, T)``, counted alike or not at all.

    ``loss(scores, y)`` is its mean, for use in any loop.

    Attributes:
        ignore_index: targets with this value do not count.
    """

    ignore_index: int

    kind = "categorical"

    def __call__(self, outputs: Any, y: Any) -> torch.Tensor:
        """See `mean`."""
        return self.mean(outputs, y)

    def weight(self, y: Any) -> float:
        """The number of targets that count."""
        return float(is_counted(y, self.ignore_index).sum())

    def _counted(self, outputs: torch.Tensor, y: Any, what: str) -> torch.Tensor:
        """Which targets count; `what` is required, in words, one for each place of the outputs.

        Raises:
            LossError: the targets are no whole numbers, or not as many.
        """
        wanted = (len(outputs), *outputs.shape[2:])
        whole = isinstance(y, torch.Tensor) and not y.is_floating_point() and y.dtype != torch.bool
        if not whole or tuple(y.shape) != wanted:
            came = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
            raise LossError(what.format(wanted=wanted) + f", {came} came: give a whole number each")
        return is_counted(y, self.ignore_index)
