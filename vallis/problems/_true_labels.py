"""What problems share that replace training labels: the split "true_labels", which keeps those there were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from vallis.core.errors import DataError, SettingsError
from vallis.core.types import Batch, Task
from vallis.problems._choose import whole

TRUE_LABELS = "true_labels"


def first_free_index(tasks: Sequence[Task]) -> int:
    """The first identity of an example that no split of the tasks has."""
    return 1 + max(int(whole(split).index.max()) for task in tasks for split in task.splits.values())


def relabelled(splits: Mapping[str, Batch], y: torch.Tensor, free: int) -> dict[str, Batch]:
    """The splits with labels ``(N,)`` for "train", and one more with the old ones, row for row.

    Args:
        splits: the examples by split.
        y: the new labels.
        free: an input with another target is another example, so it gets an identity, from here on.
    """
    train = splits["train"]
    index = torch.arange(free, free + len(train))
    changed = {"train": Batch(x=train.x, y=y, index=train.index), TRUE_LABELS: Batch(x=train.x, y=train.y, index=index)}
    return {**splits, **changed}


def classes_of(batch: Batch, advice: str) -> torch.Tensor:
    """``(N,)`` the classes of examples.

    Raises:
        DataError: the targets are not one class each; the advice says what to do.
    """
    y: torch.Tensor = batch.y
    is_whole = isinstance(y, torch.Tensor) and not y.is_floating_point() and y.dtype != torch.bool
    if not is_whole or y.ndim != 1:
        came = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
        raise DataError(f"one integer class an example was required, {came} came: {advice}")
    return y


def num_classes_of(task: Task, y: Mapping[str, torch.Tensor]) -> int:
    """How many classes the labels of all splits are of: two where one score says which, else up to the highest.

    Raises:
        DataError: there is one class alone, so that no label can be wrong.
    """
    found = 2 if task.loss.kind == "binary" else 1 + max(int(labels.max()) for labels in y.values())
    if found < 2:
        raise DataError(
            "at least 2 classes were required to make labels wrong, task "
            f"{task.name} has 1: a label must have another to become"
        )
    return found


def must_be_true(task: Task, wrapper: str) -> None:
    """Refuses labels that were replaced already: nothing would say any more which of them are true.

    Raises:
        SettingsError: they were.
    """
    if TRUE_LABELS in task.splits:
        raise SettingsError(
            f"a base whose labels are true was required by {wrapper}, noisy ones came: replace them once, and change "
            "pixels before, inside of what replaces labels"
        )
