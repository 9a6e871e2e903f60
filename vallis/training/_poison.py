"""Poison beside the examples that a step of training learns from: examples it is to get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vallis.core import tree
from vallis.core.errors import DataError
from vallis.core.losses import Loss
from vallis.core.poisoned_losses import PoisonedLoss, as_poison
from vallis.core.rng import Rng
from vallis.core.types import Batch, Data, Task

SPLIT = "poison"


class Poison:
    """The split "poison" of a task, a part of it for each step.

    Args:
        data: the split.
        batch_size: how many examples a step sees; a pass is a shuffled order, of which a rest too small for a step is
            left out. None is all of them at every step.
        rng: the stream of passes.
    """

    def __init__(self, data: Data, batch_size: int | None, rng: Rng) -> None:
        self._data = data
        self._size = len(data) if batch_size is None else min(batch_size, len(data))
        self._rng = rng
        self._pass: tuple[int, torch.Tensor] | None = None
        self._whole: Batch | None = None

    @property
    def size(self) -> int:
        """How many examples stand beside those of a step."""
        return self._size

    def at(self, step: int) -> Batch:
        """The examples for a step: a function of its number, so that nothing has to be remembered."""
        if self._size == len(self._data):
            if self._whole is None:
                self._whole = self._data.take(torch.arange(self._size))
            return self._whole
        turn, place = divmod(step, len(self._data) // self._size)
        if self._pass is None or self._pass[0] != turn:
            self._pass = turn, torch.randperm(len(self._data), generator=self._rng.child(turn).torch())
        return self._data.take(self._pass[1][place * self._size : (place + 1) * self._size])


def beside(clean: Batch, poison: Batch) -> Batch:
    """Both in one batch, clean examples first, the targets of poison marked."""
    return Batch(
        x=_joined([clean.x, poison.x]),
        y=torch.cat([clean.y, as_poison(poison.y)]),
        index=torch.cat([clean.index, poison.index]),
    )


def losses_of(tasks: Sequence[Task], poison_factor: float | None) -> tuple[Loss, ...]:
    """What is learned of each task.

    Raises:
        DataError: poison is wanted, and a task has none.
        LossError: its loss cannot be reversed.
    """
    if poison_factor == 0:
        return tuple(task.loss for task in tasks)
    for task in tasks:
        if SPLIT not in task.splits or len(task.splits[SPLIT]) == 0:
            raise DataError(
                f'a split "{SPLIT}" was required by poison_factor={poison_factor}, task {task.name} has '
                f"{', '.join(task.splits)}: wrap the problem in poisoned"
            )
    return tuple(PoisonedLoss(base=task.loss, poison_factor=poison_factor) for task in tasks)


def _joined(parts: Sequence[Any]) -> Any:
    columns = iter([torch.cat(column) for column in zip(*map(tree.tensors, parts), strict=True)])
    return tree.map_tensors(lambda _: next(columns), parts[0])
