"""Another problem with noisy training labels: drawn by a transition matrix from the true ones, whatever the input.

Labels are drawn once a seed and stay as they are over all epochs. Test labels stay true.

Source: Patrini et al. (2017), Making deep neural networks robust to label noise: a loss correction approach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from vallis.core.data import Arrays
from vallis.core.errors import SettingsError
from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.numerics.transition_matrix import asymmetric, binary, draw_noisy, next_in_group, symmetric
from vallis.problems._checks import check_choice, check_part, check_share
from vallis.problems._choose import whole
from vallis.problems._true_labels import classes_of, first_free_index, must_be_true, num_classes_of, relabelled

Noise = Literal["symmetric", "asymmetric", "next_in_group", "binary"]


@dataclass(frozen=True, kw_only=True)
class NoisyLabels:
    """`base` with its training labels replaced as a transition matrix says.

    A task gets one more split, "true_labels": row i is the input of row i of "train" with the label that it had. The
    labels that are wrong at a small rate are wrong in the same way at a larger one.

    Attributes:
        base: the problem whose labels become noisy.
        noise: "symmetric" takes a class for any other alike, "asymmetric" the first of each of `pairs` for the second,
            "next_in_group" each for the next of its group, and "binary" class 1 for 0, and 0 for 1 with `other_rate`.
        rate: the probability with which a label of a class that can be wrong is wrong.
        pairs: of "asymmetric": see `vallis.numerics.transition_matrix`, which has those of the literature.
        groups: of "next_in_group": the group of each class, such as the superclasses of CIFAR-100.
        other_rate: of "binary".
    """

    base: Problem
    noise: Noise = "symmetric"
    rate: float = 0.2
    pairs: tuple[tuple[int, int], ...] = ()
    groups: tuple[int, ...] = ()
    other_rate: float = 0.05

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_part("noisy_labels.base", self.base, "build")
        check_choice("noisy_labels.noise", self.noise, Noise)
        for name in ("rate", "other_rate"):
            check_share(f"noisy_labels.{name}", getattr(self, name), zero=True, one=True)
        for name, noise in (("pairs", "asymmetric"), ("groups", "next_in_group")):
            if bool(getattr(self, name)) != (self.noise == noise):
                raise SettingsError(f"noisy_labels.{name} must be given with noise={noise!r}, and only then: change it")

    @classmethod
    def tiny(cls) -> NoisyLabels:
        """The cheapest settings, for tests."""
        from vallis.testing.toys.problems import Bars

        return cls(base=Bars(), rate=0.4)

    def transition(self, num_classes: int) -> torch.Tensor:
        """``(C, C)`` float64 the transition matrix.

        Raises:
            SettingsError: the noise is not one of so many classes.
        """
        if self.noise == "symmetric":
            return symmetric(num_classes, self.rate)
        if self.noise == "asymmetric":
            return asymmetric(num_classes, self.pairs, self.rate)
        matrix = binary(self.rate, self.other_rate) if self.noise == "binary" else next_in_group(self.groups, self.rate)
        if len(matrix) != num_classes:
            raise SettingsError(
                f"{num_classes} classes were required of {self.noise} noise, {len(matrix)} came: choose another base"
            )
        return matrix

    def build(self, rng: Rng) -> tuple[Task, ...]:
        tasks, noisy = self.base.build(rng), []
        free = first_free_index(tasks)
        for task in tasks:
            noisy.append(self._relabel(task, free, rng.child("noisy_labels", task.name)))
            free += len(task.splits["train"])
        return tuple(noisy)

    def _relabel(self, task: Task, free: int, rng: Rng) -> Task:
        must_be_true(task, "noisy_labels")
        held = {name: whole(split) for name, split in task.splits.items()}
        y = {name: classes_of(batch, "use a base with classes") for name, batch in held.items()}
        num_classes = num_classes_of(task, y)
        drawn = draw_noisy(y["train"], self.transition(num_classes), rng)
        found = relabelled(held, drawn, free)
        splits = {name: Arrays(x=batch.x, y=batch.y, index=batch.index) for name, batch in found.items()}
        return Task(name=task.name, splits=splits, loss=task.loss)
