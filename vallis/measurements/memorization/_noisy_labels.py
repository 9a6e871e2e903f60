"""Which training examples have a label that is not the true one."""

from __future__ import annotations

import torch

from vallis.core.errors import DataError
from vallis.core.losses import Loss
from vallis.core.types import Data, Note, Task
from vallis.numerics.scores import ignored_target

TRUE_LABELS = "true_labels"


def true_targets(task: Task, split: str = "train") -> torch.Tensor | Note:
    """The true targets of the examples of a split, in its order, or why there are none.

    Raises:
        DataError: the split "true_labels" has other examples.
    """
    if TRUE_LABELS not in task.splits:
        text = (
            f'The task has no split "{TRUE_LABELS}" beside {split!r}, so nobody knows which labels are noisy '
            "(problems like corrupted have one)."
        )
        return Note(code="no_true_labels", text=text)
    true, given = _targets(task.splits[TRUE_LABELS]), _targets(task.splits[split])
    if true is None or given is None:
        return Note(code="not_classification", text="The targets are no tensors of classes, so no label is noisy.")
    if true.shape != given.shape:
        raise DataError(
            f"one true target for each target of {split} was required, {tuple(true.shape)} came for "
            f"{tuple(given.shape)}: give the examples of {split} in their order"
        )
    return true


def noisy(given: torch.Tensor, true: torch.Tensor, loss: Loss) -> torch.Tensor:
    """``(N,)`` bool: whether any target of an example that counts differs from the true one.

    Of distributions the largest entry counts, so that smoothing a label leaves it what it was.
    """
    if loss.kind == "categorical" and given.is_floating_point():
        given, true = given.argmax(1), true.argmax(1)
    ignored = ignored_target(loss)
    differ = (given != true) & (given != ignored) if ignored is not None else given != true
    return differ if differ.ndim == 1 else differ.flatten(1).any(1)


def noisy_examples(task: Task) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The identities ``(N,)`` of the training examples and which of them are noisy; None where nobody knows."""
    true = true_targets(task)
    if isinstance(true, Note):
        return None
    index = torch.cat([batch.index.cpu() for batch in task.splits["train"]])
    given = _targets(task.splits["train"])
    return None if given is None else (index, noisy(given, true, task.loss))


def _targets(data: Data) -> torch.Tensor | None:
    found = [batch.y for batch in data]
    if not all(isinstance(y, torch.Tensor) for y in found) or len({y.shape[1:] for y in found}) != 1:
        return None
    return torch.cat([y.cpu() for y in found])
