"""The rules by which the claims of `zhang2017_randomization` are decided, and the cells of its table they look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vallis.core.types import Row, Verdict
from vallis.numerics.stats import equivalence, majority, sign_test, spearman, verdict_from
from vallis.problems.corrupted import Pixels
from vallis.studies._rows import by_seed, paired, same_seeds

WEIGHT_DECAY = 5e-4
NOISES: tuple[Pixels, ...] = ("shuffled", "random", "gaussian_iid")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set and the networks that its claims are about.

    Attributes:
        networks: those that are trained on everything.
        mlp: the fully connected one of the claim about shuffled pixels; None where there is none.
        convnet: the convolutional one; where it is none of `networks`, it sees true and shuffled pixels only.
        decays: whether weight decay is asked about; where all regularisers are, it is one of those.
        spared: of which the paper says that with weight decay they do not fit random labels (table 4).
    """

    title: str
    networks: tuple[str, ...] = ("mlp",)
    mlp: str | None = "mlp"
    convnet: str = "convnet"
    decays: bool = True
    spared: tuple[str, ...] = ()

    def asks(self, claim: str) -> bool:
        """Whether a claim is about this data set."""
        if claim == "mlp_does_not_see_places":
            return self.mlp is not None
        if claim == "noise_is_fitted_in_this_order":
            return self.convnet in self.networks
        return self.decays or not claim.startswith("weight_decay")

    def aside(self, claim: str) -> str:
        """What is to be said of the networks that a claim leaves out."""
        if claim != "weight_decay_stops_nothing" or not self.spared:
            return ""
        return f" ({' and '.join(self.spared)} aside, which the paper says does not converge then)"


DATA_SETS = {
    "digits": DataSet(title="the digits"),
    "fashion_mnist": DataSet(title="1,000 images of Fashion-MNIST"),
    "few_digits": DataSet(title="400 of the digits", networks=("convnet",), mlp=None, decays=False),
    "few_clothes": DataSet(title="500 images of Fashion-MNIST", networks=("convnet",), mlp=None, decays=False),
    "photographs": DataSet(title="1,000 images of CIFAR-10"),
    "cifar10": DataSet(
        title="CIFAR-10",
        networks=("inception", "inception_without_norm", "alexnet", "mlp_3x512", "mlp_1x512"),
        mlp="mlp_1x512",
        convnet="inception",
        spared=("alexnet",),
    ),
}


Variant = Mapping[str, float | str]
Fractions = tuple[float, ...]
RANDOM_LABELS: Variant = {"labels": 1.0}


def cell(data: str, network: str, variant: Variant) -> dict[str, str | float]:
    """The tags of a network that was trained on a variant of the data; without one, on the true data, unregularised."""
    plain: Variant = {"labels": 0.0, "pixels": "none", "weight_decay": 0.0, "regularizer": "none"}
    return {"data": data, "network": network, **plain, **variant}


def numbers(
    rows: Sequence[Row],
    key: str,
    data: str,
    networks: Sequence[str],
    variants: Sequence[Variant],
    measurement: str = "generalization_gap",
) -> NDArray[np.float64]:
    """``(seeds, networks, variants)`` a value of each network trained on each variant, for seeds that have them all."""
    cells = [cell(data, network, variant) for network in networks for variant in variants]
    found = paired([by_seed(rows, measurement, key, tags) for tags in cells])
    return found.reshape(len(found), len(networks), len(variants))


def steps_to_fit(
    rows: Sequence[Row], data: str, networks: Sequence[str], variants: Sequence[Variant]
) -> NDArray[np.float64]:
    """``(seeds, networks, variants)`` steps until all training examples were right; infinite where they never were."""
    cells = [cell(data, network, variant) for network in networks for variant in variants]
    found = same_seeds(rows, "generalization_gap", ("steps", "train_accuracy"), cells)
    steps, right = (found[:, place].reshape(len(found), len(networks), len(variants)) for place in (0, 1))
    return np.where(right == 1, steps, np.inf)


def met_by_most(met: NDArray[np.bool_], shown: NDArray[np.float64]) -> Verdict:
    """Put to the seeds; the median of what was measured is shown."""
    if not len(met):
        return verdict_from(None)
    return verdict_from(majority(met.tolist()), statistic=float(np.median(shown)))


def fits_anything(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """The lowest training accuracy over everything that was made random is at least 0.99."""
    variants: list[Variant] = [*({"labels": f} for f in fractions), *({"pixels": noise} for noise in NOISES)]
    lowest = numbers(rows, "train_accuracy", data, DATA_SETS[data].networks, variants).min(axis=(1, 2))
    return met_by_most(lowest >= 0.99, lowest)


def only_guesses(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """The test accuracy after random labels is within 0.03 of 0.1."""
    test = numbers(rows, "test_accuracy", data, DATA_SETS[data].networks, [RANDOM_LABELS])[:, :, 0]
    return met_by_most(np.abs(test - 0.1).max(axis=1) <= 0.03, test.mean(axis=1))


def error_grows(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """The rank correlation of test error and share of random labels is at least 0.95."""
    variants = [{"labels": fraction} for fraction in fractions]
    test = numbers(rows, "test_accuracy", data, DATA_SETS[data].networks, variants)
    ranks = np.array([min(spearman(fractions, 1 - line).statistic for line in lines) for lines in test])
    return met_by_most(ranks >= 0.95, ranks)


def takes_longer(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """Random labels take 1.3 to 6 times the steps of true ones."""
    steps = steps_to_fit(rows, data, DATA_SETS[data].networks, [{}, RANDOM_LABELS])
    # Where true labels were not fitted either nothing is known: no ratio is in the interval then.
    ratio = steps[:, :, 1] / np.where(np.isfinite(steps[:, :, 0]), steps[:, :, 0], np.nan)
    return met_by_most((ratio.min(axis=1) >= 1.3) & (ratio.max(axis=1) <= 6), ratio.mean(axis=1))


def noise_is_sooner(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """Random and Gaussian pixels take fewer steps than random labels."""
    variants: list[Variant] = [RANDOM_LABELS, {"pixels": "random"}, {"pixels": "gaussian_iid"}]
    steps = steps_to_fit(rows, data, DATA_SETS[data].networks, variants)
    met = np.all(steps[:, :, 1:] < steps[:, :, :1], axis=(1, 2))
    with np.errstate(invalid="ignore"):  # not fitted, neither
        slowest = (steps[:, :, 1:] / steps[:, :, :1]).max(axis=(1, 2))
    return met_by_most(met, slowest)


def in_this_order(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """The convolutional network fits true images first, then shuffled, then random and Gaussian ones, then labels."""
    variants: list[Variant] = [{}, *({"pixels": noise} for noise in NOISES), RANDOM_LABELS]
    steps = steps_to_fit(rows, data, [DATA_SETS[data].convnet], variants)[:, 0]
    true, shuffled, random, gaussian, labels = steps.T
    met = (true < shuffled) & (shuffled < np.minimum(random, gaussian)) & (np.maximum(random, gaussian) < labels)
    with np.errstate(invalid="ignore"):  # not fitted, neither
        return met_by_most(met, shuffled / true)


def mlp_is_blind(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """Shuffled pixels change the mean test accuracy of the fully connected network by less than 0.02."""
    network = DATA_SETS[data].mlp
    assert network is not None  # else nobody asks
    test = numbers(rows, "test_accuracy", data, [network], [{}, {"pixels": "shuffled"}])[:, 0]
    return verdict_from(equivalence((test[:, 1] - test[:, 0]).tolist(), 0.02))


def convnet_sees(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """Shuffled pixels lower the test accuracy of the convolutional network."""
    test = numbers(rows, "test_accuracy", data, [DATA_SETS[data].convnet], [{}, {"pixels": "shuffled"}])[:, 0]
    return verdict_from(sign_test((test[:, 0] - test[:, 1]).tolist()))


def decay_changes_little(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """Weight decay changes the test accuracy on true labels by less than 0.05."""
    variants: list[Variant] = [{}, {"weight_decay": WEIGHT_DECAY}]
    test = numbers(rows, "test_accuracy", data, DATA_SETS[data].networks, variants)
    change = np.abs(test[:, :, 1] - test[:, :, 0]).max(axis=1)
    return met_by_most(change < 0.05, change)


def decay_stops_nothing(rows: Sequence[Row], data: str, fractions: Fractions) -> Verdict:
    """With weight decay the training accuracy on random labels is at least 0.99, where the paper has it so."""
    held = DATA_SETS[data]
    networks = [network for network in held.networks if network not in held.spared]
    variants: list[Variant] = [{**RANDOM_LABELS, "weight_decay": WEIGHT_DECAY}]
    lowest = numbers(rows, "train_accuracy", data, networks, variants).min(axis=(1, 2))
    return met_by_most(lowest >= 0.99, lowest)
