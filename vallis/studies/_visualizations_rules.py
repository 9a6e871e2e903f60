"""The rules by which the claims of `huang2019_visualizations` are decided, and the cells they look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vallis.core.types import Result, Row, Verdict
from vallis.numerics.stats import majority, sign_test, spearman, t_test, verdict_from
from vallis.studies._minefield_cells import TAGS
from vallis.studies._rows import by_seed, judged, paired

Floats = NDArray[np.float64]
GAP, VOLUME, MINEFIELD = "generalization_gap", "basin_volume", "minefield"
# A6: points of the path from which others start, at least.
_STARTS = 10

OPTIMIZERS = (
    *("SGD", "momentum", "Nesterov", "Adam", "AMSGrad", "Adamax", "Adadelta", "Adagrad", "RMSprop", "ASGD"),
    "LBFGS",
)
LINEAR = "linear"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set.

    Attributes:
        chance: the accuracy of guessing.
        betas: the poison factors of the sweep, rising from 0; the last makes the bad minimum.
        compared: whether optimizers, and the linear model, are compared on it.
    """

    title: str
    chance: float
    betas: tuple[float, ...]
    compared: bool = True

    @property
    def worst(self) -> float:
        """The largest poison factor."""
        return self.betas[-1]


DATA_SETS = {
    "spirals": DataSet(title="the swiss roll", chance=0.5, betas=(0.0, 0.01, 0.03, 0.1, 0.3), compared=False),
    "digits": DataSet(title="the digits", chance=0.1, betas=(0.0, 0.03, 0.1, 0.3, 0.9)),
    "fashion_mnist": DataSet(title="Fashion-MNIST", chance=0.1, betas=(0.0, 0.03, 0.1, 0.3, 0.8)),
    "photographs": DataSet(
        title="200 images of CIFAR-10", chance=0.1, betas=(0.0, 0.03, 0.1, 0.3, 0.7), compared=False
    ),
    "cifar10": DataSet(title="CIFAR-10", chance=0.1, betas=(0.0, 0.03, 0.1, 0.3, 0.8)),
}


def swept(data: str, beta: float) -> dict[str, str | float]:
    """The tags of a network of the sweep."""
    return {"data": data, "part": "sweep", "poison_factor": beta}


def compared(data: str, optimizer: str) -> dict[str, str | float]:
    """The tags of a network of the comparison of optimizers; `LINEAR` is the linear model."""
    return {"data": data, "part": "optimizers", "optimizer": optimizer}


def numbers(rows: Sequence[Row], measurement: str, key: str, data: str, betas: Sequence[float]) -> Floats:
    """``(seeds, betas)`` a value at each poison factor, for the seeds that have them all."""
    return paired([by_seed(rows, measurement, key, swept(data, beta)) for beta in betas])


def of_optimizers(rows: Sequence[Row], key: str, data: str, names: Sequence[str]) -> Floats:
    """``(seeds, names)`` a value of each optimizer, for the seeds that have them all."""
    return paired([by_seed(rows, GAP, key, compared(data, name)) for name in names])


def bad_minima_exist(rows: Sequence[Row], data: str) -> Verdict:
    """At the largest factor all training examples are right and the test accuracy is at most that of guessing."""
    held = DATA_SETS[data]
    train, test = (numbers(rows, GAP, f"{split}_accuracy", data, [held.worst])[:, 0] for split in ("train", "test"))
    if len(train) != len(test) or not len(test):
        return verdict_from(None)
    met = (train == 1.0) & (test <= held.chance)
    return verdict_from(majority(met.tolist()), statistic=float(np.median(test)))


def training_avoids_them(rows: Sequence[Row], data: str) -> Verdict:
    """A1: without poison all training examples are right, too, and the gap is smaller by at least 0.3."""
    held = DATA_SETS[data]
    gaps = numbers(rows, GAP, "accuracy_gap", data, [0.0, held.worst])
    train = numbers(rows, GAP, "train_accuracy", data, [0.0])
    if len(gaps) != len(train) or not len(gaps):
        return verdict_from(None)
    apart = gaps[:, 1] - gaps[:, 0]
    met = (train[:, 0] == 1.0) & (apart >= 0.3)
    return verdict_from(majority(met.tolist()), statistic=float(np.median(apart)))


def _exceeds(values: Floats, threshold: float) -> Verdict:
    return verdict_from(sign_test(values.tolist(), threshold) if len(values) else None)


def radius_is_larger(rows: Sequence[Row], data: str) -> Verdict:
    """A2: the mean radius is larger at least by a factor of 3."""
    radii = numbers(rows, VOLUME, "mean_radius", data, [0.0, DATA_SETS[data].worst])
    return _exceeds(radii[:, 0] / radii[:, 1], 3.0) if len(radii) else verdict_from(None)


def volume_is_larger(rows: Sequence[Row], data: str) -> Verdict:
    """A3: the volume is larger by at least 1,000 powers of ten."""
    shares = numbers(rows, VOLUME, "log10_ball_share", data, [0.0, DATA_SETS[data].worst])
    return _exceeds(shares[:, 0] - shares[:, 1], 1000.0) if len(shares) else verdict_from(None)


def _ranks_agree(rows: Sequence[Row], data: str, key: str) -> Verdict:
    betas = DATA_SETS[data].betas
    test, sizes = numbers(rows, GAP, "test_accuracy", data, betas), numbers(rows, VOLUME, key, data, betas)
    if test.shape != sizes.shape or not len(test):
        return verdict_from(None)
    found = [spearman(size.tolist(), right.tolist()).statistic for size, right in zip(sizes, test, strict=True)]
    return _exceeds(np.array(found), 0.6)


def accuracy_follows_volume(rows: Sequence[Row], data: str) -> Verdict:
    """A4: over the sweep, the rank correlation of test accuracy and log-volume exceeds 0.6."""
    return _ranks_agree(rows, data, "log10_ball_share")


def accuracy_follows_radius(rows: Sequence[Row], data: str) -> Verdict:
    """A4: likewise of test accuracy and mean radius."""
    return _ranks_agree(rows, data, "mean_radius")


def gap_falls_with_volume(rows: Sequence[Row], data: str) -> Verdict:
    """In most seeds, with the networks of the sweep sorted by volume, every gap is below the one before."""
    betas = DATA_SETS[data].betas
    gaps = numbers(rows, GAP, "accuracy_gap", data, betas)
    sizes = numbers(rows, VOLUME, "log10_ball_share", data, betas)
    if gaps.shape != sizes.shape or not len(gaps):
        return verdict_from(None)
    falls = [bool((np.diff(gap[np.argsort(size)]) < 0).all()) for gap, size in zip(gaps, sizes, strict=True)]
    return verdict_from(majority(falls))


def optimizers_agree(rows: Sequence[Row], data: str) -> Verdict:
    """Of the optimizers that fit all training examples, the worst is less than 0.1 in test accuracy below the best."""
    train, test = (of_optimizers(rows, f"{split}_accuracy", data, OPTIMIZERS) for split in ("train", "test"))
    if train.shape != test.shape or not len(test):
        return verdict_from(None)
    apart = test.max(1) - test.min(1)
    met = (train == 1.0).all(1) & (apart < 0.1)
    return verdict_from(majority(met.tolist()), statistic=float(np.median(apart)))


def network_beats_linear(rows: Sequence[Row], data: str) -> Verdict:
    """Trained by Adam, the network is more accurate on the test set than the linear model."""
    test = of_optimizers(rows, "test_accuracy", data, ["Adam", LINEAR])
    return verdict_from(t_test((test[:, 0] - test[:, 1]).tolist()) if len(test) else None)


def path_is_mined(rows: Sequence[Row]) -> Verdict:
    """A6: the path ends at a test accuracy of 0.9, and from ten of its points poison leads to 0.95 and at most 0.6."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        (field,) = found
        is_other = field.array("is_path").data == 0
        train, test = (field.array(f"{split}_accuracies").data[is_other] for split in ("train", "test"))
        if len(test) < _STARTS:
            return False, np.nan
        end = field.estimate("path_end_test_accuracy").value
        met = end >= 0.9 and bool((train >= 0.95).all()) and bool((test <= 0.6).all())
        return met, float(test.max())

    return judged(rows, MINEFIELD, [TAGS], look)


def mines_are_near(rows: Sequence[Row]) -> Verdict:
    """The minima that poison leads to are on the mean nearer to the path than its own ends are to one another."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        near, apart = (found[0].estimate(key).value for key in ("nearest_distance", "path_distance"))
        return near < apart, near / apart

    return judged(rows, MINEFIELD, [TAGS], look)
