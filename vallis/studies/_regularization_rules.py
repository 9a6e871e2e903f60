"""Section 3 of the paper: with which regularisers the claims of `zhang2017_randomization` are about which networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vallis.core.types import Claim, Row, Verdict
from vallis.studies._randomization_rules import RANDOM_LABELS, WEIGHT_DECAY, Variant, cell, met_by_most, numbers
from vallis.studies._rows import same_seeds

POTENTIAL = "early_stopping_potential"
# The paper does not print p; one half is the usual one of its networks.
DROPOUT = 0.5
REGULARIZERS: Mapping[str, Variant] = {
    "weight_decay": {"weight_decay": WEIGHT_DECAY},
    "dropout": {"regularizer": "dropout"},
    "crop": {"regularizer": "crop"},
    "crop_flip": {"regularizer": "crop_flip"},
    "flip_rotate": {"regularizer": "flip_rotate"},
    "crop_and_weight_decay": {"regularizer": "crop", "weight_decay": WEIGHT_DECAY},
    "early_stopping": {"regularizer": "early_stopping"},
}
# On random labels the paper does not combine them, and of early stopping it says nothing.
NOT_ON_NOISE = ("crop_and_weight_decay", "early_stopping")
_WORDS = {
    "weight_decay": "weight decay",
    "dropout": f"dropout of {DROPOUT:g}",
    "crop": "random cropping",
    "crop_flip": "random cropping and mirroring",
    "flip_rotate": "mirroring and rotation by up to 25 degrees",
    "crop_and_weight_decay": "random cropping and weight decay",
    "early_stopping": "early stopping",
    "batch_norm": "batch normalisation",
}


@dataclass(frozen=True, kw_only=True)
class Regularized:
    """A data set and the networks that are trained on it with every regulariser.

    Attributes:
        who: these networks in words.
        networks: each is trained with all `REGULARIZERS`.
        plain: the one without batch normalisation.
        normalized: the same with it; it sees true and random labels.
        on_noise: of `networks`, those that are asked to fit random labels; the paper's AlexNet did not with weight
            decay, and with crops it is not in table 4.
        who_on_noise: these in words.
        names: the regularisers; mirror images of digits are no digits, and on clothes one augmentation must do.
    """

    title: str
    who: str = "the convolutional network"
    networks: tuple[str, ...] = ("convnet",)
    plain: str = "convnet"
    normalized: str = "convnet_with_norm"
    on_noise: tuple[str, ...] = ("convnet",)
    who_on_noise: str = "the convolutional network"
    names: tuple[str, ...] = tuple(REGULARIZERS)


REGULARIZED: Mapping[str, Regularized] = {
    "few_digits": Regularized(
        title="400 of the digits",
        names=("weight_decay", "dropout", "crop", "crop_and_weight_decay", "early_stopping"),
    ),
    "few_clothes": Regularized(
        title="500 images of Fashion-MNIST",
        names=("weight_decay", "dropout", "flip_rotate", "early_stopping"),
    ),
    "cifar10": Regularized(
        title="CIFAR-10",
        who="the small Inception and the small AlexNet",
        networks=("inception", "alexnet"),
        on_noise=("inception",),
        who_on_noise="the small Inception",
        plain="inception_without_norm",
        normalized="inception",
    ),
}


def changes_little(rows: Sequence[Row], data: str, name: str) -> Verdict:
    """The regulariser changes the test accuracy on true labels by less than 0.05."""
    held = REGULARIZED[data]
    if name == "batch_norm":
        test = numbers(rows, "test_accuracy", data, [held.plain, held.normalized], [{}])[:, :, 0][:, None]
    else:
        test = numbers(rows, "test_accuracy", data, held.networks, [{}, REGULARIZERS[name]])
    change = np.abs(test[:, :, 1] - test[:, :, 0]).max(axis=1)
    return met_by_most(change < 0.05, change)


def stops_nothing(rows: Sequence[Row], data: str, name: str) -> Verdict:
    """With the regulariser the training accuracy on random labels is at least 0.99."""
    held = REGULARIZED[data]
    networks = [held.normalized] if name == "batch_norm" else held.on_noise
    variant: Variant = {**REGULARIZERS.get(name, {}), **RANDOM_LABELS}
    lowest = numbers(rows, "train_accuracy", data, networks, [variant]).min(axis=(1, 2))
    return met_by_most(lowest >= 0.99, lowest)


def is_not_needed(rows: Sequence[Row], data: str, name: str) -> Verdict:
    """Without any regulariser true labels are fitted, and unseen ones recognised better than by guessing."""
    held = REGULARIZED[data]
    cells = [cell(data, network, {}) for network in held.networks]
    lowest = same_seeds(rows, "generalization_gap", ("train_accuracy", "test_accuracy"), cells).min(axis=2)
    return met_by_most((lowest[:, 0] >= 0.99) & (lowest[:, 1] >= 0.5), lowest[:, 1])


def stops_in_time(rows: Sequence[Row], data: str, name: str) -> Verdict:
    """The best test accuracy while true labels are learned exceeds the last by less than 0.05."""
    held = REGULARIZED[data]
    gain = numbers(rows, "potential", data, held.networks, [{}], POTENTIAL).max(axis=(1, 2))
    return met_by_most(gain < 0.05, gain)


def claims() -> list[Claim]:
    """Each regulariser on each data set."""
    change, train, test, gain = (
        f"{words}, median over seeds"
        for words in ("change of the test accuracy", "training accuracy", "test accuracy", "gain of test accuracy")
    )
    found = []
    for data, held in REGULARIZED.items():
        for name in (*held.names, "batch_norm"):
            words = _WORDS[name]
            little = f"{words} changes the test accuracy on true labels by less than 0.05"
            found.append(_claim(f"with_{name}_changes_little", changes_little, little, "table 1", data, name, change))
            if name not in NOT_ON_NOISE:
                fits = f"with {words} the training accuracy on random labels is still at least 0.99"
                found.append(_claim(f"with_{name}_fits_noise", stops_nothing, fits, "table 4", data, name, train))
        says = "without any regulariser true labels are fitted (0.99) and the test accuracy is at least 0.5"
        found.append(_claim("regularizers_are_not_needed", is_not_needed, says, "table 1", data, "none", test))
        says = "while true labels are learned, the best test accuracy exceeds the last by less than 0.05"
        found.append(_claim("stopping_in_time_gains_little", stops_in_time, says, "figure 2", data, "none", gain))
    return found


def _claim(
    name: str, rule: Callable[..., Verdict], says: str, table: str, data: str, regularizer: str, shows: str
) -> Claim:
    held = REGULARIZED[data]
    # Batch normalisation is on and off in the one network that is trained in both ways.
    who = held.who_on_noise if rule is stops_nothing or regularizer == "batch_norm" else held.who
    return Claim(
        id=f"{name}_{data}",
        says=f"On {held.title}, {who}: {says}.",
        where=f"section 3, {table}",
        test=partial(rule, data=data, name=regularizer),
        about=held.title,
        shows=shows,
    )
