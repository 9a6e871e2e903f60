"""What outputs say of each example, by the loss that judges them: losses, correctness and scores, when asked for."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from vallis.core import tree
from vallis.core.errors import LossError
from vallis.core.losses import Loss
from vallis.numerics.scores import ignored_target


class Outputs:
    """Outputs of a network beside their targets: the `vallis.core.answers.Answers` of a step that has a loss.

    Nothing is computed before it is asked for, and nothing twice. The tensors are borrowed, without their graph.

    Args:
        loss: what judges them.
        outputs: what the network returned for the B examples.
        targets: what the loss judges them against.
    """

    def __init__(self, loss: Loss, outputs: Any, targets: Any) -> None:
        self.loss = loss
        if isinstance(outputs, torch.Tensor):
            self.outputs: Any = outputs.detach() if outputs.requires_grad else outputs
        else:
            self.outputs = tree.map_tensors(torch.Tensor.detach, outputs)
        self.targets = targets

    @cached_property
    def losses(self) -> torch.Tensor | None:
        """``(B,)``; None where the loss cannot be taken apart into examples."""
        try:
            with torch.no_grad():
                return self.loss.per_example(self.outputs, self.targets)[0]
        except LossError:
            return None

    @cached_property
    def correct(self) -> torch.Tensor | None:
        """``(B,)`` bool; None without classes."""
        with torch.no_grad():
            return correct(self.loss, self.outputs, self.targets)

    @cached_property
    def scores(self) -> torch.Tensor | None:
        """``(B, C)``, ``(B, C, T)`` or ``(B,)``; None where the loss finds none in the outputs."""
        return self.loss.scores(self.outputs)


def correct(loss: Loss, outputs: Any, y: Any) -> torch.Tensor | None:
    """``(B,)`` bool, whether all targets of an example that count are classified rightly; None without classes.

    It is what `vallis.numerics.scores.judge` says, a tie being wrong, in few operations.
    """
    scores = loss.scores(outputs)
    if scores is None or not isinstance(y, torch.Tensor):
        return None
    if loss.kind == "binary" and scores.numel() == y.numel() and y.ndim > 0:
        scores = scores.reshape(y.shape)
        return _of_examples(torch.where(y > 0.5, scores, -scores) > 0)
    if loss.kind != "categorical" or scores.ndim < 2 or scores.shape[1] < 2:
        return None
    if y.is_floating_point() and y.shape == scores.shape:
        y = y.argmax(1)
    if y.is_floating_point() or y.shape != scores.shape[:1] + scores.shape[2:]:
        return None
    y = y.long()
    classes = y.clamp(0, scores.shape[1] - 1)
    # Only the true class itself is not below its score: a rival that is NaN counts against it.
    right = (~(scores < scores.gather(1, classes.unsqueeze(1)))).sum(1) == 1
    right |= classes != y  # no class, so it does not count
    ignored = ignored_target(loss)
    if ignored is not None and ignored >= 0:
        right |= y == ignored
    return _of_examples(right)


def _of_examples(right: torch.Tensor) -> torch.Tensor:
    return right if right.ndim == 1 else right.flatten(1).all(1)
