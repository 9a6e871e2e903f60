"""Another problem with some examples set aside as poison: labels that a training may be asked to get wrong.

Source: Huang et al. (2019), Understanding generalization through visualizations, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from vallis.core.data import Arrays
from vallis.core.errors import DataError, SettingsError
from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems._checks import check_choice, check_number
from vallis.problems._choose import stratified_order, whole
from vallis.problems._true_labels import classes_of, must_be_true

From = Literal["train", "test"]
_POISON = "poison"


@dataclass(frozen=True, kw_only=True)
class Poisoned:
    """`base` with a third split, "poison", that shares no example with "train" or "test".

    Its labels are true. What a training makes of them it says itself: `gradient_descent` with a `poison_factor` learns
    to get them wrong. Taken from the distribution that the other splits come from, poison then stands for test examples
    without being any, so that the test error tells how bad a minimum is.

    The swiss roll of Huang et al., with poison that is never seen twice in 100 steps of 200, is
    ``Poisoned(base=Spirals(shape="swiss_roll", num_per_class=10_200, train_fraction=200 / 20_400), taken_from="test",
    num_poison=20_000)``; their minefield takes half of the test examples of noiseless spirals.

    Attributes:
        base: the problem.
        taken_from: the split whose examples become poison: "train" or "test".
        num_poison: how many, class by class in proportion; None takes half of the split.
    """

    base: Problem
    taken_from: From = "train"
    num_poison: int | None = None

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_choice("poisoned.taken_from", self.taken_from, From)
        check_number("poisoned.num_poison", self.num_poison)

    @classmethod
    def tiny(cls) -> Poisoned:
        """The cheapest settings, for tests."""
        from vallis.testing.toys.problems import Bars

        return cls(base=Bars(), num_poison=8)

    def build(self, rng: Rng) -> tuple[Task, ...]:
        return tuple(self._poison(task, rng.child("poisoned", task.name)) for task in self.base.build(rng))

    def _poison(self, task: Task, rng: Rng) -> Task:
        must_be_true(task, "poisoned")
        if _POISON in task.splits:
            raise SettingsError('a base without poison was required, one with a split "poison" came: poison it once')
        if self.taken_from not in task.splits:
            raise DataError(
                f'a base with a split "{self.taken_from}" was required, task {task.name} has '
                f"{', '.join(task.splits)}: take poison from one of them"
            )
        held = whole(task.splits[self.taken_from])
        y = classes_of(held, "poison a problem of classes")
        number = len(held) // 2 if self.num_poison is None else self.num_poison
        if not 1 <= number < len(held):
            raise DataError(
                f'poisoned.num_poison must leave examples in "{self.taken_from}", which has {len(held)}, '
                f"{number} came: take fewer"
            )
        order = stratified_order(y, rng)
        splits = dict(task.splits)
        for name, positions in ((_POISON, order[:number]), (self.taken_from, order[number:])):
            kept = task.splits[self.taken_from].take(torch.sort(positions).values)
            splits[name] = Arrays(x=kept.x, y=kept.y, index=kept.index)
        return Task(name=task.name, splits=splits, loss=task.loss)
