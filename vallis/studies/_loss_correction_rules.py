"""The rules by which the claims of `patrini2017_loss_correction` are decided, and the cells they look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.types import Array, Result, Row, Verdict
from vallis.numerics.stats import majority, t_test, verdict_from
from vallis.numerics.transition_matrix import CIFAR10_PAIRS, DIGIT_PAIRS, FASHION_PAIRS, Pairs, asymmetric, symmetric
from vallis.studies._rows import by_seed, paired, same_seeds

Floats = NDArray[np.float64]
Condition = tuple[str, float]
Method = tuple[str, str]

NUM_CLASSES = 10
CROSS_ENTROPY: Method = ("cross_entropy", "none")
EARLY: Method = ("early_stopping", "none")
IDENTITY: Method = ("forward", "identity")
COMPARED: dict[Method, str] = {
    CROSS_ENTROPY: "cross-entropy",
    ("forward", "true"): "forward, true T",
    ("forward", "estimated"): "forward, estimated T",
    ("backward", "true"): "backward, true T",
    ("backward", "estimated"): "backward, estimated T",
}
# Noise at which everything is compared, and at which T is estimated.
CONDITIONS: tuple[Condition, ...] = (("symmetric", 0.2), ("symmetric", 0.5), ("asymmetric", 0.2), ("asymmetric", 0.6))
ESTIMATED: tuple[Condition, ...] = (("symmetric", 0.3), ("asymmetric", 0.3))
AS_IDENTITY: Condition = ("asymmetric", 0.2)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set, and which of its classes are taken for which by asymmetric noise."""

    title: str
    pairs: Pairs


DATA_SETS = {
    "digits": DataSet(title="the digits", pairs=DIGIT_PAIRS),
    "fashion_mnist": DataSet(title="Fashion-MNIST", pairs=FASHION_PAIRS),
    "cifar10": DataSet(title="CIFAR-10", pairs=CIFAR10_PAIRS),
}


def true_transition(data: str, condition: Condition) -> torch.Tensor:
    """``(10, 10)`` the matrix that the noise is drawn by."""
    noise, rate = condition
    return (
        symmetric(NUM_CLASSES, rate) if noise == "symmetric" else asymmetric(NUM_CLASSES, DATA_SETS[data].pairs, rate)
    )


def cell(data: str, condition: Condition, method: Method) -> dict[str, str | float]:
    """The tags of a network."""
    loss, transition = method
    return {"data": data, "noise": condition[0], "rate": condition[1], "loss": loss, "transition": transition}


def numbers(
    rows: Sequence[Row], measurement: str, key: str, data: str, cells: Sequence[tuple[Condition, Method]]
) -> Floats:
    """``(seeds, cells)`` a value of each cell, for the seeds that have them all."""
    return paired([by_seed(rows, measurement, key, cell(data, *found)) for found in cells])


def estimates(rows: Sequence[Row], data: str, condition: Condition) -> Mapping[int, Floats]:
    """``(10, 10)`` T as the network that was stopped early says it, by seed."""
    tags, found = cell(data, condition, EARLY), {}
    for row in rows:
        wanted = row.measurement == "label_noise" and all(row.tags.get(name) == tag for name, tag in tags.items())
        if wanted and isinstance(row.outcome, Result):
            matrix = row.outcome.values.get("transition")
            if isinstance(matrix, Array) and np.isfinite(matrix.data).all():
                found[row.seed] = matrix.data
    return found


def _below(lines: Floats, limit: float) -> Verdict:
    """The largest number of most seeds is at most the limit; its median is shown."""
    if not lines.size:
        return verdict_from(None)
    largest = lines.max(axis=1)
    return verdict_from(majority((largest <= limit).tolist()), statistic=float(np.median(largest)))


def _identities(rows: Sequence[Row], key: str, data: str) -> Floats:
    return numbers(rows, "correction_identities", key, data, [(condition, CROSS_ENTROPY) for condition in CONDITIONS])


def backward_is_unbiased(rows: Sequence[Row], data: str) -> Verdict:
    """C1: at every noise the backward gap is at most 1e-10."""
    return _below(_identities(rows, "backward_gap", data), 1e-10)


def forward_keeps_the_minimiser(rows: Sequence[Row], data: str) -> Verdict:
    """C2: at every noise the forward distance is at most 1e-6."""
    return _below(_identities(rows, "forward_distance", data), 1e-6)


def _gain(rows: Sequence[Row], data: str, condition: Condition, loss: str, threshold: float) -> Verdict:
    """By more than this the test accuracy with the true T exceeds that of cross-entropy, in the mean."""
    test = numbers(
        rows, "generalization_gap", "test_accuracy", data, [(condition, (loss, "true")), (condition, CROSS_ENTROPY)]
    )
    return verdict_from(t_test((test[:, 0] - test[:, 1]).tolist(), threshold) if len(test) else None)


def forward_helps_asymmetric(rows: Sequence[Row], data: str) -> Verdict:
    """C3: at asymmetric noise of 0.6, by more than two points."""
    return _gain(rows, data, ("asymmetric", 0.6), "forward", 0.02)


def forward_helps_symmetric(rows: Sequence[Row], data: str) -> Verdict:
    """C3: at symmetric noise of 0.5, by more than two points."""
    return _gain(rows, data, ("symmetric", 0.5), "forward", 0.02)


def _memorizes_less(rows: Sequence[Row], data: str, condition: Condition) -> Verdict:
    share = numbers(
        rows,
        "label_noise",
        "memorized_fraction",
        data,
        [(condition, CROSS_ENTROPY), (condition, ("forward", "true"))],
    )
    return verdict_from(t_test((share[:, 0] - share[:, 1]).tolist()) if len(share) else None)


def forward_memorizes_less_asymmetric(rows: Sequence[Row], data: str) -> Verdict:
    """C3: at asymmetric noise of 0.6 a smaller share of the wrong labels is learned."""
    return _memorizes_less(rows, data, ("asymmetric", 0.6))


def forward_memorizes_less_symmetric(rows: Sequence[Row], data: str) -> Verdict:
    """C3: likewise at symmetric noise of 0.5."""
    return _memorizes_less(rows, data, ("symmetric", 0.5))


def backward_helps_asymmetric(rows: Sequence[Row], data: str) -> Verdict:
    """C3: at asymmetric noise of 0.2 backward correction is more accurate than cross-entropy."""
    return _gain(rows, data, ("asymmetric", 0.2), "backward", 0.0)


def backward_helps_symmetric(rows: Sequence[Row], data: str) -> Verdict:
    """C3: likewise at symmetric noise of 0.2."""
    return _gain(rows, data, ("symmetric", 0.2), "backward", 0.0)


def _estimate_is_near(rows: Sequence[Row], data: str, condition: Condition) -> Verdict:
    true = true_transition(data, condition).numpy()
    worst = [float(np.abs(matrix - true).max()) for _, matrix in sorted(estimates(rows, data, condition).items())]
    if not worst:
        return verdict_from(None)
    return verdict_from(majority([error < 0.15 for error in worst]), statistic=float(np.median(worst)))


def estimate_is_near_asymmetric(rows: Sequence[Row], data: str) -> Verdict:
    """C4: at asymmetric noise of 0.3 no entry of the estimate is off by 0.15."""
    return _estimate_is_near(rows, data, ("asymmetric", 0.3))


def estimate_is_near_symmetric(rows: Sequence[Row], data: str) -> Verdict:
    """C4: likewise at symmetric noise of 0.3."""
    return _estimate_is_near(rows, data, ("symmetric", 0.3))


def identity_changes_nothing(rows: Sequence[Row], data: str) -> Verdict:
    """C5: corrected by the identity, training ends with the loss and the accuracy of cross-entropy, up to 1e-6."""
    cells = [cell(data, AS_IDENTITY, method) for method in (IDENTITY, CROSS_ENTROPY)]
    found = same_seeds(rows, "generalization_gap", ("train_loss", "test_accuracy"), cells, undefined=True)
    return _below(np.abs(found[:, :, 0] - found[:, :, 1]), 1e-6)
