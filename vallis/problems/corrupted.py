"""Another problem with random labels or random pixels: the randomisation tests of Zhang et al. 2017.

What is drawn is drawn once a seed and stays as it is over all epochs. Labels and pixels come from streams of their own,
so that a change to one leaves the other as it was, and the examples relabelled at a small fraction are among those
relabelled at a larger one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from vallis.core.data import Arrays
from vallis.core.errors import DataError, SettingsError
from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.types import Batch, Task
from vallis.numerics.corruptions import gaussian, relabel, shuffle, shuffle_each
from vallis.problems._checks import check_choice, check_part, check_share
from vallis.problems._choose import whole
from vallis.problems._true_labels import classes_of, first_free_index, must_be_true, num_classes_of, relabelled

Pixels = Literal["none", "shuffled", "random", "gaussian", "gaussian_iid"]


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """`base` with its labels or its inputs made random. Test labels stay true.

    Where labels are corrupted, a task gets one more split, "true_labels": row i is the input of row i of "train" with
    the label that it had. So ``train.y != true_labels.y`` says which examples were relabelled, and the accuracy on it
    says what a net that memorised the wrong labels still knows of the true ones. A new label may be the old one by
    chance, so that the expected share of wrong ones is ``labels * (1 - 1 / C)`` with C classes.

    Attributes:
        base: the problem to corrupt.
        labels: the probability with which each training label is replaced by a class drawn uniformly.
        pixels: "none"; "shuffled" moves the pixels by one permutation, the same for all images of all splits; "random"
            by a permutation of its own for each image; "gaussian" replaces every value by an independent Gaussian with
            the mean and variance that this pixel has over the training set (mean and covariance diagonal of the data),
            so that places that are always blank stay blank; "gaussian_iid" with those of all pixels of all its images,
            as in the paper (section 2.1). A permutation moves places in the image and keeps the channels of a place
            together.
    """

    base: Problem
    labels: float = 0.0
    pixels: Pixels = "none"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_part("corrupted.base", self.base, "build")
        check_share("corrupted.labels", self.labels, zero=True, one=True)
        check_choice("corrupted.pixels", self.pixels, Pixels)
        inner: object = self.base
        while inner is not None:
            if isinstance(inner, Corrupted):
                raise SettingsError("a base that is not corrupted was required, one came that is: corrupt it once")
            inner = getattr(inner, "base", None)

    @classmethod
    def tiny(cls) -> Corrupted:
        """The cheapest settings, for tests."""
        from vallis.testing.toys.problems import Bars

        return cls(base=Bars(), labels=0.5, pixels="random")

    def build(self, rng: Rng) -> tuple[Task, ...]:
        tasks, corrupted = self.base.build(rng), []
        free = first_free_index(tasks)
        for task in tasks:
            corrupted.append(self._corrupt(task, free, rng.child("corrupted")))
            free += len(task.splits["train"])
        return tuple(corrupted)

    def _corrupt(self, task: Task, free: int, rng: Rng) -> Task:
        must_be_true(task, "corrupted")
        held = {name: whole(split) for name, split in task.splits.items()}
        inputs = self._corrupt_inputs(held, task.name, rng.child("pixels"))
        found = {name: Batch(x=inputs[name], y=batch.y, index=batch.index) for name, batch in held.items()}
        if self.labels > 0:
            y = {name: classes_of(batch, "leave corrupted.labels at 0") for name, batch in held.items()}
            num_classes = num_classes_of(task, y)
            drawn = relabel(y["train"], self.labels, num_classes, rng.child("labels", task.name))
            found = relabelled(found, drawn, free)
        splits = {name: Arrays(x=batch.x, y=batch.y, index=batch.index) for name, batch in found.items()}
        return Task(name=task.name, splits=splits, loss=task.loss)

    def _corrupt_inputs(self, held: Mapping[str, Batch], task: str, rng: Rng) -> dict[str, torch.Tensor]:
        images = {name: batch.x for name, batch in held.items()}
        if self.pixels == "none":
            return images
        for x in images.values():
            if not (isinstance(x, torch.Tensor) and x.ndim > 1 and x.is_floating_point()):
                raise DataError(
                    f"images or vectors were required, inputs of type {type(x).__name__} came: leave pixels"
                )
        if self.pixels == "shuffled":
            return {name: shuffle(x, rng.child("shuffled")) for name, x in images.items()}
        if self.pixels == "random":
            return {name: shuffle_each(x, rng.child("random", task, name)) for name, x in images.items()}
        train = images["train"] if self.pixels == "gaussian" else images["train"].flatten()
        return {name: gaussian(x, train, rng.child("gaussian", task, name)) for name, x in images.items()}
