"""Sections 2.2, 4 and 5 of the paper: the claims about what is built or solved in closed form, not trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vallis.core.types import Claim, Result, Row, Verdict
from vallis.numerics.stats import sign_test, verdict_from
from vallis.studies._randomization_rules import RANDOM_LABELS, Variant, cell, met_by_most, numbers
from vallis.studies._rows import by_seed, paired, same_seeds

CONSTRUCTED = "memorizing"
GABOR = "memorizing_on_gabor"
RIDGE = "memorizing_with_l2"
RANDOM_CONVOLUTIONS = "memorizing_on_random_convolutions"
RIDGE_ON_CONVOLUTIONS = "memorizing_on_random_convolutions_with_l2"
PAIR = "two_digits"
NUM_CLASSES = 10
LABELS: Sequence[Variant] = ({}, RANDOM_LABELS)
KERNEL, LINEAR, EXPRESSIVITY = "kernel_interpolation", "implicit_minimum_norm", "finite_sample_expressivity"


@dataclass(frozen=True, kw_only=True)
class Constructed:
    """A data set on which things are built.

    Attributes:
        num_inputs: d.
        kernel_generalizes: whether the card gives a limit for the error of the kernel.
    """

    title: str
    num_inputs: int
    kernel_generalizes: bool = False


BUILT: Mapping[str, Constructed] = {
    "digits": Constructed(title="the digits", num_inputs=64, kernel_generalizes=True),
    "fashion_mnist": Constructed(title="1,000 images of Fashion-MNIST", num_inputs=784),
    "cifar10": Constructed(title="10,000 images of CIFAR-10", num_inputs=2352),
}


def found(
    rows: Sequence[Row], measurement: str, keys: Sequence[str], data: str, variants: Sequence[Variant]
) -> NDArray[np.float64]:
    """``(seeds, keys, variants)`` what a measurement found beside the constructed network, finite or not."""
    cells = [cell(data, CONSTRUCTED, variant) for variant in variants]
    return same_seeds(rows, measurement, keys, cells, undefined=True)


def memorises(rows: Sequence[Row], data: str) -> Verdict:
    """2n + d weights take the numbers of the classes of n examples, and n + d + 10 n a target for each class.

    The errors are at most 1e-6 (1 + max |y|), whatever the labels; shown is the larger one, in units of 1 + max |y|.
    """
    cells = [cell(data, CONSTRUCTED, variant) for variant in LABELS]
    spare = [_spare_weights(rows, tags, data) for tags in cells]
    errors = [
        {seed: error / (1 + largest) for seed, error in by_seed(rows, EXPRESSIVITY, key, tags, undefined=True).items()}
        for tags in cells
        for key, largest in (("one_output_largest_error", NUM_CLASSES - 1), ("largest_error", 1))
    ]
    lines = paired([*spare, *errors])
    worst = lines[:, len(spare) :].max(axis=1)
    return met_by_most((lines[:, : len(spare)] == 0).all(axis=1) & (worst <= 1e-6), worst)


def _spare_weights(rows: Sequence[Row], tags: Variant, data: str) -> dict[int, float]:
    """By how many weights more than the theorem says, both networks together, by seed."""
    spare = {}
    for row in rows:
        if row.measurement == EXPRESSIVITY and dict(row.tags) == tags and isinstance(row.outcome, Result):
            one, all_classes = (row.outcome.estimate(f"{name}num_parameters") for name in ("one_output_", ""))
            n, d = all_classes.n, BUILT[data].num_inputs
            spare[row.seed] = abs(one.value - (2 * n + d)) + abs(all_classes.value - ((1 + NUM_CLASSES) * n + d))
    return spare


def construction_learns_nothing(rows: Sequence[Row], data: str) -> Verdict:
    """The construction on random labels is right on all training examples, and guesses on others."""
    train, test = found(rows, "generalization_gap", _ACCURACIES, data, [RANDOM_LABELS])[:, :, 0].T
    return met_by_most((train == 1) & (np.abs(test - 0.1) <= 0.03), test)


def least_norm(rows: Sequence[Row], data: str) -> Verdict:
    """Gradient descent from 0, of all examples, of a few at a time, or with momentum, ends at the least norm."""
    keys = [f"{name}_difference" for name in ("gradient_descent", "stochastic", "momentum")]
    away = found(rows, LINEAR, keys, data, LABELS).max(axis=(1, 2))
    return met_by_most(away <= 1e-6, away)


def elsewhere(rows: Sequence[Row], data: str) -> Verdict:
    """From random weights it ends at a larger norm."""
    ratio = found(rows, LINEAR, ["random_start_norm_ratio"], data, LABELS).min(axis=(1, 2))
    return met_by_most(ratio > 1, ratio)


def kernel_generalizes(rows: Sequence[Row], data: str) -> Verdict:
    """The kernel has no training error, and a test error below 0.05."""
    train, test = found(rows, KERNEL, ["train_error", "test_error"], data, [{}])[:, :, 0].T
    return met_by_most((train == 0) & (test < 0.05), test)


def noise_is_larger(rows: Sequence[Row], data: str) -> Verdict:
    """Random labels take a larger norm than true ones."""
    true, random = found(rows, KERNEL, ["norm"], data, LABELS)[:, 0].T
    return verdict_from(sign_test((random - true).tolist()))


def bad_are_larger(rows: Sequence[Row], data: str) -> Verdict:
    """Both other functions through the same examples have a larger norm."""
    keys = ["norm", "test_noise_norm", "random_centres_norm"]
    least, *others = found(rows, KERNEL, keys, data, [{}])[:, :, 0].T
    ratio = np.minimum(*others) / least
    return met_by_most(ratio > 1, ratio)


def rademacher(rows: Sequence[Row], data: str) -> Verdict:
    """The correlation of the answers with random signs is at least 0.99."""
    share = numbers(rows, "train_accuracy", data, ["mlp"], [RANDOM_LABELS])[:, 0, 0]
    return met_by_most(2 * share - 1 >= 0.99, 2 * share - 1)


_ACCURACIES = ("train_accuracy", "test_accuracy")
_RULES: Mapping[str, tuple[Callable[..., Verdict], str, str, str]] = {
    "two_n_plus_d_weights_memorise": (
        memorises,
        "a network of 2n + d weights takes the numbers y of the classes of n examples, at most 1,000, and one of "
        "n + d + 10 n weights a target y for each class, with an error of at most 1e-6 (1 + max |y|), whether their "
        "labels are true or random",
        "section 4, theorem 1",
        "largest error over 1 + max |y|, median over seeds",
    ),
    "construction_learns_nothing": (
        construction_learns_nothing,
        "the network built for random labels is right on every training example and its test accuracy is within 0.03 "
        "of the 0.1 of guessing",
        "section 4, theorem 1",
        "test accuracy, median over seeds",
    ),
    "gradient_descent_finds_least_norm": (
        least_norm,
        "linear models trained from 0 by gradient descent, stochastic or not, with momentum or without, differ from "
        "the solution of least norm by at most 1e-6 of its norm",
        "section 5",
        "relative difference, median over seeds",
    ),
    "start_elsewhere_ends_elsewhere": (
        elsewhere,
        "a linear model trained from random weights ends at a norm above the least",
        "section 5",
        "ratio of norms, median over seeds",
    ),
    "kernel_interpolates_and_generalises": (
        kernel_generalizes,
        "the function of least norm of a Gaussian kernel through all training examples is right on all of them, and "
        "wrong on less than 0.05 of the unseen ones",
        "section 5",
        "test error, median over seeds",
    ),
    "noise_has_the_larger_norm": (
        noise_is_larger,
        "of the functions of least norm the one through random labels has a larger norm than the one through true ones",
        "section 5",
        "difference of norms, median over seeds",
    ),
    "bad_interpolants_have_larger_norm": (
        bad_are_larger,
        "functions of the kernel that also pass through random labels on the test examples, or are built around random "
        "centres, have a larger norm",
        "section 5",
        "ratio of norms, median over seeds",
    ),
}


def claims() -> list[Claim]:
    """Each on each data set that it is about."""
    made = [
        Claim(
            id=f"{name}_{data}",
            says=f"On {held.title}: {says}.",
            where=where,
            test=partial(rule, data=data),
            about=held.title,
            shows=shows,
        )
        for data, held in BUILT.items()
        for name, (rule, says, where, shows) in _RULES.items()
        if name != "kernel_interpolates_and_generalises" or held.kernel_generalizes
    ]
    says = "On the digits 3 and 8: the answers agree with random labels (+1 or -1), a correlation of at least 0.99."
    rule = partial(rademacher, data=PAIR)
    shows = "correlation, median over seeds"
    return [*made, Claim(id=f"rademacher_is_one_{PAIR}", says=says, where="section 2.2", test=rule, shows=shows)]
