"""What losses of classes share that are computed target by target, some of which do not count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from vallis.core.errors import LossError
from vallis.core.losses import find_scores, mean_of_rows


class TargetLoss(ABC):
    """A `vallis.core.losses.Loss` of scores ``(N, C)`` or ``(N, C, T)`` beside classes ``(N,)`` or ``(N, T)``.

    ``loss(scores, y)`` is its mean, for use in any loop.

    Attributes:
        ignore_index: targets with this value do not count.
    """

    ignore_index: int

    kind = "categorical"

    def __call__(self, outputs: Any, y: Any) -> torch.Tensor:
        """See `mean`."""
        return self.mean(outputs, y)

    def mean(self, outputs: Any, y: Any) -> torch.Tensor:
        """The scalar mean over targets that count; NaN where none does.

        Raises:
            LossError: the outputs are no scores of the classes, or the targets are no classes of them.
        """
        losses, counted = self._each(outputs, y)
        return (losses * counted).sum() / counted.sum()

    def weight(self, y: Any) -> float:
        """The number of targets that count."""
        return float((y != self.ignore_index).sum())

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """``(N,)`` each example's mean over its targets that count, and ``(N,)`` how many those are.

        Raises:
            LossError: see `mean`.
        """
        return mean_of_rows(*self._each(outputs, y))

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """The scores."""
        return find_scores(outputs)

    @abstractmethod
    def _each(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses of all targets, 0 where one does not count, and whether it does."""

    def _counted(self, outputs: torch.Tensor, y: Any, what: str) -> torch.Tensor:
        """Which targets count; `what` is required, in words, one for each place of the outputs.

        Raises:
            LossError: the targets are no whole numbers, or not as many.
        """
        wanted = (len(outputs), *outputs.shape[2:])
        if not isinstance(y, torch.Tensor) or y.is_floating_point() or tuple(y.shape) != wanted:
            came = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
            raise LossError(what.format(wanted=wanted) + f", {came} came: give a whole number each")
        return y != self.ignore_index
