"""The examples of a solution as a regression sees them: inputs in one tensor, and the values to take there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from vallis.core.data import subset
from vallis.core.errors import DataError, SettingsError
from vallis.core.losses import Loss
from vallis.core.rng import Rng
from vallis.core.types import Estimate, NotApplicable, Note, Solution
from vallis.numerics.regression_targets import mean_error, regression_targets
from vallis.problems._choose import whole


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """A split, or a random part of it.

    Attributes:
        x: ``(N, ...)``.
        values: ``(N, C)`` float64, see `regression_targets`.
        loss: how answers are judged.
        notes: what there is to say of the choice.
    """

    x: torch.Tensor
    values: torch.Tensor
    loss: Loss
    notes: tuple[Note, ...] = ()

    def error(self, answers: torch.Tensor) -> Estimate:
        """The share of wrong answers, or the mean squared error of numbers, over these examples."""
        value, stderr, n = mean_error(self.loss, answers, self.values)
        what = "share wrong" if self.loss.kind in ("categorical", "binary") else "mean squared error"
        return Estimate(value=value, stderr=stderr, n=n, method=f"{what}; the error bar is over the choice of examples")


def read(
    solution: Solution, splits: Mapping[str, str], most: int | None, rng: Rng
) -> dict[str, Examples] | NotApplicable:
    """The examples of these splits, those that the task has, under the names that they are given here.

    Args:
        solution: whose first task.
        splits: the name here and in the task; "train" must be among them.
        most: of a larger split called "train" a random part of this size stands for the whole.
        rng: chooses the part.

    Raises:
        SettingsError: not even one example is allowed, or there is no split for "train".
    """
    task = solution.task
    if most is not None and most < 1:
        raise SettingsError(f"at least one example was required, {most} came: raise it")
    if splits["train"] not in task.splits:
        raise SettingsError(f"a split {splits['train']!r} was required, {list(task.splits)} came: name one of these")
    there = {name: split for name, split in splits.items() if split in task.splits}
    data = {name: task.splits[split] for name, split in there.items()}
    found = {name: subset(split, most, rng) if name == "train" and most else split for name, split in data.items()}
    held = {name: whole(split) for name, split in found.items()}
    if not all(isinstance(batch.x, torch.Tensor) and batch.x.is_floating_point() for batch in held.values()):
        return _not("The inputs are not numbers in one tensor.")
    if any(batch.x.ndim < 2 for batch in held.values()):
        return _not("An input is a single number, so there is no direction to choose.")
    try:
        values = regression_targets(task.loss, [batch.y for batch in held.values()])
    except DataError as error:
        return _not(f"The targets are no classes and no numbers: {error}.")
    notes: tuple[Note, ...] = ()
    if len(held["train"]) < len(data["train"]):
        text = f"Fitted to {len(held['train']):,} of {len(data['train']):,} examples, chosen at random."
        notes = (Note(code="part_of_the_data", text=text),)
    return {
        name: Examples(x=batch.x, values=value, loss=task.loss, notes=notes if name == "train" else ())
        for (name, batch), value in zip(held.items(), values, strict=True)
    }


def _not(text: str) -> NotApplicable:
    return NotApplicable(note=Note(code="no_regression", text=text))
