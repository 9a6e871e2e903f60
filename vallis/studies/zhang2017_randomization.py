"""Can a network fit noise? True labels against random labels and random pixels, on the same net with the same training.

The claims are those of section 2 of the paper, each about one data set. A claim about single networks is put to the
seeds: a seed meets the written rule or it does not, and the claim holds where an exact binomial test rejects that no
more than half of all seeds would meet it (five seeds must all do so, eight may miss it once). A claim that two numbers
are equal is put to two one-sided t-tests. The thresholds were written before the networks were trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from vallis.core.errors import SettingsError
from vallis.core.protocols import Model, Problem
from vallis.core.types import Axis, Claim, Figure, Job, Mark, Row, Source, Verdict
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.models.alexnet_small import AlexnetSmall
from vallis.models.convnet import Convnet
from vallis.models.inception_small import InceptionSmall
from vallis.models.mlp import Mlp
from vallis.problems.cifar10 import Cifar10
from vallis.problems.corrupted import Corrupted, Pixels
from vallis.problems.digits import Digits
from vallis.problems.fashion_mnist import FashionMnist
from vallis.problems.subset import Subset
from vallis.studies import _randomization_rules as rules
from vallis.studies._randomization_rules import (
    DATA_SETS,
    NOISES,
    RANDOM_LABELS,
    WEIGHT_DECAY,
    Fractions,
    Variant,
    cell,
    numbers,
)
from vallis.studies._rows import mean_and_error
from vallis.training.gradient_descent import GradientDescent


@dataclass(frozen=True, kw_only=True)
class Zhang2017Randomization:
    """Trains every network on the true data and on each way to make them random, with and without weight decay.

    Attributes:
        fractions: the probabilities, beside 0 and 1, with which a training label is made random.
    """

    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)

    version: ClassVar[int] = 1
    source: ClassVar[Source] = Source(
        title="Understanding deep learning requires rethinking generalization",
        authors="C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals",
        year=2017,
        url="https://arxiv.org/abs/1611.03530",
    )

    def __post_init__(self) -> None:
        rising = list(self.fractions) == sorted(set(self.fractions))
        if not (rising and all(0 < fraction < 1 for fraction in self.fractions)):
            raise SettingsError(
                f"fractions must rise between 0 and 1, {self.fractions} came: give such as (0.2, 0.4, 0.6, 0.8)"
            )

    def jobs(self, scale: str) -> Sequence[Job]:
        settings, num_seeds = {"smoke": (_smoke, 2), "laptop": (_laptop, 8), "paper": (_paper, 5)}[scale]
        return [job for seed in range(num_seeds) for setting in settings() for job in self._cells(setting, seed)]

    def claims(self) -> Sequence[Claim]:
        return [
            Claim(
                id=f"{name}_{data}",
                says=f"On {held.title}: {says}.",
                where=where,
                test=partial(rule, data=data, fractions=self._shares),
            )
            for data, held in DATA_SETS.items()
            for name, (rule, says, where) in RULES.items()
        ]

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        drawn = (_time_by_share(rows, self._shares), _accuracy_by_share(rows, self._shares), _time_by_kind(rows))
        return [figure for figure in drawn if figure.marks]

    @property
    def _shares(self) -> Fractions:
        return (0.0, *self.fractions, 1.0)

    def _cells(self, setting: _Setting, seed: int) -> Iterator[Job]:
        if setting.network not in DATA_SETS[setting.data].networks:
            yield from (setting.job(seed), setting.job(seed, pixels="shuffled"))
            return
        yield from (setting.job(seed, labels=fraction) for fraction in self._shares)
        yield from (setting.job(seed, pixels=noise) for noise in NOISES)
        yield from (setting.job(seed, labels=labels, weight_decay=WEIGHT_DECAY) for labels in (0.0, 1.0))


# ----------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One network on one data set, trained in one way whatever is made random."""

    data: str
    network: str
    problem: Problem
    model: Model
    training: GradientDescent

    def job(self, seed: int, labels: float = 0.0, pixels: Pixels = "none", weight_decay: float = 0.0) -> Job:
        return Job(
            problem=Corrupted(base=self.problem, labels=labels, pixels=pixels),
            model=self.model,
            training=replace(self.training, weight_decay=weight_decay),
            measurements=(GeneralizationGap(),),
            seed=seed,
            tags=cell(self.data, self.network, {"labels": labels, "pixels": pixels, "weight_decay": weight_decay}),
        )


def _until_fitted(learning_rate: float, batch_size: int, max_steps: int) -> GradientDescent:
    return GradientDescent(
        learning_rate=learning_rate,
        momentum=0.9,
        batch_size=batch_size,
        max_steps=max_steps,
        stop_train_accuracy=1.0,
    )


def _smoke() -> list[_Setting]:
    few, training = Subset(base=Digits(), num_train=100, num_test=100), _until_fitted(0.05, 25, 400)
    return [
        _Setting(data="digits", network="mlp", problem=few, model=Mlp(widths=(64,)), training=training),
        _Setting(data="digits", network="convnet", problem=few, model=Convnet(channels=(4, 8)), training=training),
    ]


def _laptop() -> list[_Setting]:
    digits, clothes = Digits(test_fraction=0.5), FashionMnist(num_train=2000, num_test=2000)
    slow, fast = _until_fitted(0.05, 64, 8000), _until_fitted(0.05, 128, 8000)
    mlp, convnet = Mlp(widths=(512,)), Convnet(channels=(8, 16))
    return [
        _Setting(data="digits", network="mlp", problem=digits, model=mlp, training=slow),
        _Setting(data="digits", network="convnet", problem=digits, model=convnet, training=slow),
        _Setting(data="fashion_mnist", network="mlp", problem=clothes, model=mlp, training=fast),
        _Setting(data="fashion_mnist", network="convnet", problem=clothes, model=convnet, training=fast),
    ]


def _paper() -> list[_Setting]:
    # Batch size, number of epochs and initial weights are not printed; 128 and 100 epochs are what reruns use.
    problem = Cifar10(centre_crop=28, whiten="per_image")
    models: dict[str, tuple[Model, float]] = {
        "inception": (InceptionSmall(), 0.1),
        "inception_without_norm": (InceptionSmall(batch_norm=False), 0.1),
        "alexnet": (AlexnetSmall(), 0.01),
        "mlp_3x512": (Mlp(widths=(512, 512, 512)), 0.01),
        "mlp_1x512": (Mlp(widths=(512,)), 0.01),
    }
    return [
        _Setting(
            data="cifar10",
            network=name,
            problem=problem,
            model=model,
            training=replace(_until_fitted(rate, 128, 39_100), schedule="exponential", decay=0.95),
        )
        for name, (model, rate) in models.items()
    ]


# ------------------------------------------------------------------------------------------------------------ claims

RULES: dict[str, tuple[Callable[..., Verdict], str, str]] = {
    "fits_anything": (
        rules.fits_anything,
        "the training accuracy is at least 0.99 on true labels, on every share of random labels, and on shuffled, "
        "random and Gaussian pixels, with one and the same training",
        "section 2.1, figure 1a, table 1",
    ),
    "random_labels_teach_nothing": (
        rules.only_guesses,
        "the test accuracy after training on random labels is within 0.03 of the 0.1 of guessing",
        "section 2.1, table 1",
    ),
    "error_grows_with_random_labels": (
        rules.error_grows,
        "the rank correlation of the test error with the share of random labels is at least 0.95",
        "section 2.1, figure 1c",
    ),
    "random_labels_take_longer": (
        rules.takes_longer,
        "to fit random labels takes between 1.3 and 6 times the steps that true labels take",
        "section 2.1, figure 1b",
    ),
    "random_pixels_are_fitted_sooner": (
        rules.noise_is_sooner,
        "random pixels and Gaussian pixels take fewer steps to fit than random labels",
        "section 2.1, figure 1a",
    ),
    "mlp_does_not_see_places": (
        rules.mlp_is_blind,
        "one permutation of the pixels changes the mean test accuracy of the fully connected network by less than 0.02",
        "section 2.1: a consequence of its symmetry",
    ),
    "convnet_sees_places": (
        rules.convnet_sees,
        "a convolutional network is less accurate with its pixels permuted",
        "section 2.1",
    ),
    "weight_decay_changes_little": (
        rules.decay_changes_little,
        "weight decay changes the test accuracy on true labels by less than 0.05",
        "section 3, table 1",
    ),
    "weight_decay_stops_nothing": (
        rules.decay_stops_nothing,
        "with weight decay the training accuracy on random labels is still at least 0.99",
        "section 3, table 4",
    ),
}

# ----------------------------------------------------------------------------------------------------------- figures

KINDS: dict[str, Variant] = {
    "true": {},
    "shuffled pixels": {"pixels": "shuffled"},
    "random pixels": {"pixels": "random"},
    "Gaussian pixels": {"pixels": "gaussian"},
    "random labels": RANDOM_LABELS,
}
_ERRORS = "Error bars: one standard error over the seeds."


def _marks(
    rows: Sequence[Row], key: str, variants: Sequence[Variant], x: Sequence[float | str], relative: bool = False
) -> tuple[Mark, ...]:
    """A mark for each network that has all variants; relative to the first variant, seed by seed, if so wished."""
    kind: Literal["bar", "line"] = "bar" if isinstance(x[0], str) else "line"
    marks = []
    for data, held in DATA_SETS.items():
        for network in held.networks:
            found = numbers(rows, key, data, [network], variants)[:, 0]
            if len(found):
                mean, error = mean_and_error(found / found[:, :1] if relative else found)
                label = f"{held.title}, {network} (n={len(found)})"
                marks.append(Mark(kind=kind, x=list(x), y=mean, error=error, label=label))
    return tuple(marks)


def _time_by_share(rows: Sequence[Row], shares: Fractions) -> Figure:
    return Figure(
        name="time_to_fit",
        title="How much longer labels take to fit as they become random",
        x=Axis(label="share of random labels"),
        y=Axis(label="steps until all training examples are right, relative to true labels"),
        marks=_marks(rows, "steps", [{"labels": share} for share in shares], shares, relative=True),
        caption=f"Compare figure 1b of the paper. {_ERRORS}",
    )


def _accuracy_by_share(rows: Sequence[Row], shares: Fractions) -> Figure:
    return Figure(
        name="test_accuracy",
        title="What is learned of the true labels as labels become random",
        x=Axis(label="share of random labels"),
        y=Axis(label="test accuracy"),
        marks=_marks(rows, "test_accuracy", [{"labels": share} for share in shares], shares),
        caption=f"Compare figure 1c of the paper, which shows the error. Guessing gives 0.1. {_ERRORS}",
    )


def _time_by_kind(rows: Sequence[Row]) -> Figure:
    return Figure(
        name="time_by_kind",
        title="How long each kind of noise takes to fit",
        x=Axis(label="what was made random", scale="category"),
        y=Axis(label="steps until all training examples are right", scale="log"),
        marks=_marks(rows, "steps", list(KINDS.values()), list(KINDS)),
        caption=f"Compare figure 1a of the paper. {_ERRORS}",
    )
