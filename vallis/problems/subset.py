"""Fewer examples, or fewer classes, of another problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vallis.core.data import Arrays
from vallis.core.errors import DataError, SettingsError
from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.types import Data, Task
from vallis.problems._checks import check_number, check_part
from vallis.problems._choose import choose, whole


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A random choice of the examples of `base`, class by class; smaller choices are among larger ones.

    Examples keep their identity. To corrupt a subset, put it inside: ``Corrupted(base=Subset(base=...))``.

    Attributes:
        base: the problem to choose from.
        num_train: how many training examples to keep, of each task; None keeps all.
        num_test: likewise of the test examples.
        classes: keep only these, renumbered 0, 1, ... in this order; None keeps all.
    """

    base: Problem
    num_train: int | None = None
    num_test: int | None = None
    classes: tuple[int, ...] | None = None

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_part("subset.base", self.base, "build")
        check_number("subset.num_train", self.num_train)
        check_number("subset.num_test", self.num_test)
        if self.classes is not None and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):
            raise SettingsError(
                f"subset.classes must be two or more different classes, {self.classes} came: name others"
            )

    @classmethod
    def tiny(cls) -> Subset:
        """The cheapest settings, for tests."""
        from vallis.testing.toys.problems import Bars

        return cls(base=Bars(), num_train=10, num_test=4)

    def build(self, rng: Rng) -> tuple[Task, ...]:
        return tuple(self._choose_from(task, rng.child("subset", task.name)) for task in self.base.build(rng))

    def _choose_from(self, task: Task, rng: Rng) -> Task:
        if "true_labels" in task.splits:
            raise SettingsError(
                "a base whose labels are true was required, a corrupted one came: corrupt the subset instead, as in "
                "Corrupted(base=Subset(base=...))"
            )
        numbers = {"train": self.num_train, "test": self.num_test}
        splits = {
            name: self._chosen(split, numbers.get(name), rng.child(name), f"subset.num_{name}")
            for name, split in task.splits.items()
        }
        return Task(name=task.name, splits=splits, loss=task.loss)

    def _chosen(self, split: Data, number: int | None, rng: Rng, what: str) -> Arrays:
        held = whole(split)
        if not (isinstance(held.y, torch.Tensor) and held.y.ndim == 1):
            raise DataError(
                f"one class an example was required, targets of type {type(held.y).__name__} came: use another base"
            )
        positions, y = torch.arange(len(held)), held.y
        if self.classes is not None:
            wanted = torch.tensor(self.classes)
            places = (y[:, None] == wanted).int()
            positions = places.any(1).nonzero().squeeze(1)
            y = places.argmax(1)
            if len(places.sum(0).nonzero()) < len(self.classes):
                raise DataError(f"examples of all classes {self.classes} were required, some have none: name others")
        chosen = positions[choose(y[positions], number, rng, what)]
        kept = split.take(chosen)
        return Arrays(x=kept.x, y=y[chosen].to(held.y.dtype), index=kept.index)
