"""Can a corrected loss learn from noisy labels? Forward and backward, with the true transition matrix or an estimate.

The claims follow the paper, each about one data set: the first two and the last are
identities, the others numbers. A claim that a number is larger is put to a one-sided paired t-test over the seeds, one
that a number is below a limit to a binomial test of how many seeds meet it. The thresholds were written before the
networks were trained.

The network is the paper's for MNIST: two hidden layers of 128 units with dropout 0.2, trained by Adagrad in batches of
128. Its learning rate is not known here; 0.01 is used. At the scale "laptop" the data are the digits and 2,000 images
of Fashion-MNIST, and training takes 800 steps instead of 40 epochs of 60,000 images. The pairs of asymmetric noise on
Fashion-MNIST are not the paper's. At the scale "paper" there is CIFAR-10 with a residual network of 20 layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.protocols import Model, Problem
from vallis.core.types import Claim, Job, Row, Source, Verdict
from vallis.measurements.fit.correction_identities import CorrectionIdentities
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.measurements.fit.label_noise import LabelNoise
from vallis.models.mlp import Mlp
from vallis.models.resnet20 import Resnet20
from vallis.problems.cifar10 import Cifar10
from vallis.problems.digits import Digits
from vallis.problems.fashion_mnist import FashionMnist
from vallis.problems.noisy_labels import NoisyLabels
from vallis.problems.subset import Subset
from vallis.studies import _loss_correction_rules as rules
from vallis.studies._loss_correction_rules import (
    AS_IDENTITY,
    COMPARED,
    CONDITIONS,
    CROSS_ENTROPY,
    DATA_SETS,
    EARLY,
    ESTIMATED,
    IDENTITY,
    NUM_CLASSES,
    Condition,
    Method,
    cell,
    estimates,
    numbers,
    true_transition,
)
from vallis.studies._rows import mean_and_interval
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent
from vallis.training.loss_correction import LossCorrection

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Patrini2017LossCorrection:
    """Trains one network on noisy labels of each kind with cross-entropy, and with the loss corrected in each way."""

    version: ClassVar[int] = 1
    source: ClassVar[Source] = Source(
        title="Making deep neural networks robust to label noise: a loss correction approach",
        authors="G. Patrini, A. Rozza, A. K. Menon, R. Nock, L. Qu",
        year=2017,
        url="https://arxiv.org/abs/1609.03683",
    )

    def jobs(self, scale: str) -> Sequence[Job]:
        settings, num_seeds = {"smoke": (_smoke, 2), "laptop": (_laptop, 8), "paper": (_paper, 5)}[scale]
        return [job for seed in range(num_seeds) for setting in settings() for job in setting.jobs(seed)]

    def claims(self) -> Sequence[Claim]:
        return [
            Claim(
                id=f"{name}_{data}",
                says=f"On {held.title}: {says}.",
                where=where,
                test=partial(rule, data=data),
                about=held.title,
                shows=shows,
            )
            for data, held in DATA_SETS.items()
            for name, (rule, says, where, shows) in RULES.items()
        ]

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        found = []
        for data in DATA_SETS:
            found += [_by_noise(rows, data, *asked) for asked in _DRAWN]
            found += [figure for condition in ESTIMATED for figure in _transitions(rows, data, condition)]
        return [figure for figure in found if figure.marks]


# ----------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One network on one data set, trained in one way whatever the labels and the loss."""

    data: str
    problem: Problem
    model: Model
    training: GradientDescent
    check_every: int

    def jobs(self, seed: int) -> Iterator[Job]:
        for condition in CONDITIONS:
            yield from (self.job(seed, condition, method) for method in COMPARED)
            yield self.job(seed, condition, EARLY)
        yield from (self.job(seed, condition, EARLY) for condition in ESTIMATED)
        yield self.job(seed, AS_IDENTITY, IDENTITY)

    def job(self, seed: int, condition: Condition, method: Method) -> Job:
        noise, rate = condition
        pairs = tuple(DATA_SETS[self.data].pairs) if noise == "asymmetric" else ()
        rows: Rows = tuple(tuple(row) for row in true_transition(self.data, condition).tolist())
        asked = (GeneralizationGap(), LabelNoise())
        identities = (CorrectionIdentities(transition=rows),) if method == CROSS_ENTROPY else ()
        return Job(
            problem=NoisyLabels(
                base=self.problem, noise="asymmetric" if pairs else "symmetric", rate=rate, pairs=pairs
            ),
            model=self.model,
            training=self.trained(method, rows),
            measurements=(*asked, *identities),
            seed=seed,
            tags=cell(self.data, condition, method),
        )

    def trained(self, method: Method, rows: Rows) -> GradientDescent | EarlyStopping | LossCorrection:
        early = EarlyStopping(base=self.training, check_every=self.check_every)
        if method == CROSS_ENTROPY:
            return self.training
        if method == EARLY:
            return early
        loss, transition = method
        if transition == "estimated":
            return LossCorrection(base=self.training, correction=_correction(loss), first=early)
        if method == IDENTITY:  # nothing is clipped: it must be cross-entropy itself
            return LossCorrection(base=self.training, transition=_identity(), least_probability=0.0)
        return LossCorrection(base=self.training, correction=_correction(loss), transition=rows)


def _correction(loss: str) -> Literal["forward", "backward"]:
    return "backward" if loss == "backward" else "forward"


def _identity() -> Rows:
    return tuple(tuple(float(row == column) for column in range(NUM_CLASSES)) for row in range(NUM_CLASSES))


def _adagrad(max_steps: int) -> GradientDescent:
    return GradientDescent(optimizer="Adagrad", learning_rate=0.01, batch_size=128, max_steps=max_steps)


def _smoke() -> list[_Setting]:
    few = Subset(base=Digits(), num_train=200, num_test=100)
    model, training = Mlp(widths=(32,)), _adagrad(24)
    return [_Setting(data="digits", problem=few, model=model, training=training, check_every=6)]


def _laptop() -> list[_Setting]:
    model, training = Mlp(widths=(128, 128), dropout=0.2), _adagrad(800)
    clothes = FashionMnist(num_train=2000, num_test=2000)
    return [
        _Setting(data="digits", problem=Digits(), model=model, training=training, check_every=20),
        _Setting(data="fashion_mnist", problem=clothes, model=model, training=training, check_every=20),
    ]


def _paper() -> list[_Setting]:
    model = Mlp(widths=(128, 128), dropout=0.2)
    # 40 epochs of 60,000 images; and 120 of 50,000, of which the paper shifts and mirrors each.
    slow = GradientDescent(
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        batch_size=128,
        schedule="step",
        milestones=(40, 80),
        augmentation="crop_flip",
        max_steps=120 * 391,
    )
    return [
        _Setting(data="digits", problem=Digits(), model=model, training=_adagrad(8000), check_every=20),
        _Setting(
            data="fashion_mnist", problem=FashionMnist(), model=model, training=_adagrad(40 * 469), check_every=469
        ),
        _Setting(
            data="cifar10",
            problem=Cifar10(subtract_mean_image=True),
            model=Resnet20(),
            training=slow,
            check_every=391,
        ),
    ]


# ------------------------------------------------------------------------------------------------------------ claims

RULES: dict[str, tuple[Callable[..., Verdict], str, str, str]] = {
    "backward_is_unbiased": (
        rules.backward_is_unbiased,
        "in the mean over the noise, the backward-corrected loss of a trained network is the loss of the true label, "
        "up to 1e-10 nats",
        "theorem 1",
        "largest gap in nats, median over seeds",
    ),
    "forward_keeps_the_minimiser": (
        rules.forward_keeps_the_minimiser,
        "the forward-corrected loss, expected over noisy labels, is least at the posterior of true ones, up to 1e-6",
        "theorem 2",
        "largest distance, median over seeds",
    ),
    "forward_helps_asymmetric": (
        rules.forward_helps_asymmetric,
        "at asymmetric noise of 0.6, forward correction with the true matrix is more accurate on the test set than "
        "cross-entropy by more than 0.02",
        "the experiments, tables of test accuracy",
        "mean gain of test accuracy",
    ),
    "forward_helps_symmetric": (
        rules.forward_helps_symmetric,
        "at symmetric noise of 0.5, forward correction with the true matrix is more accurate on the test set than "
        "cross-entropy by more than 0.02",
        "the experiments, tables of test accuracy",
        "mean gain of test accuracy",
    ),
    "forward_memorizes_less_asymmetric": (
        rules.forward_memorizes_less_asymmetric,
        "at asymmetric noise of 0.6, forward correction with the true matrix learns a smaller share of the wrong "
        "labels than cross-entropy",
        "the experiments",
        "mean difference of shares",
    ),
    "forward_memorizes_less_symmetric": (
        rules.forward_memorizes_less_symmetric,
        "at symmetric noise of 0.5, forward correction with the true matrix learns a smaller share of the wrong "
        "labels than cross-entropy",
        "the experiments",
        "mean difference of shares",
    ),
    "backward_helps_asymmetric": (
        rules.backward_helps_asymmetric,
        "at asymmetric noise of 0.2, backward correction with the true matrix is more accurate on the test set than "
        "cross-entropy",
        "the experiments, tables of test accuracy",
        "mean gain of test accuracy",
    ),
    "backward_helps_symmetric": (
        rules.backward_helps_symmetric,
        "at symmetric noise of 0.2, backward correction with the true matrix is more accurate on the test set than "
        "cross-entropy",
        "the experiments, tables of test accuracy",
        "mean gain of test accuracy",
    ),
    "estimate_is_near_asymmetric": (
        rules.estimate_is_near_asymmetric,
        "at asymmetric noise of 0.3, no entry of the transition matrix that is estimated after early stopping is off "
        "by 0.15",
        "the estimation of the noise",
        "largest error of an entry, median over seeds",
    ),
    "estimate_is_near_symmetric": (
        rules.estimate_is_near_symmetric,
        "at symmetric noise of 0.3, no entry of the transition matrix that is estimated after early stopping is off "
        "by 0.15",
        "the estimation of the noise",
        "largest error of an entry, median over seeds",
    ),
    "identity_changes_nothing": (
        rules.identity_changes_nothing,
        "with the identity as transition matrix, training with forward correction ends with the training loss and the "
        "test accuracy of cross-entropy, up to 1e-6",
        "a consequence of the definitions of both corrections",
        "largest difference, median over seeds",
    ),
}

# ----------------------------------------------------------------------------------------------------------- figures

_DRAWN = (
    ("generalization_gap", "test_accuracy", "Test accuracy"),
    ("label_noise", "memorized_fraction", "Share of wrong labels learned"),
)


def _by_noise(rows: Sequence[Row], data: str, measurement: str, key: str, title: str) -> Figure:
    """A bar for each loss at each noise."""
    marks = []
    for method, label in COMPARED.items():
        found = numbers(rows, measurement, key, data, [(condition, method) for condition in CONDITIONS])
        if len(found):
            mean, error = mean_and_interval(found)
            x = [f"{noise} {rate:g}" for noise, rate in CONDITIONS]
            marks.append(Mark(kind="bar", x=x, y=mean, error=error, label=f"{label} (n={len(found)})"))
    return Figure(
        name=f"{key}_{data}",
        title=f"{title}: {DATA_SETS[data].title}",
        x=Axis(label="noise, and its rate of wrong labels", scale="category"),
        y=Axis(label=title.lower()),
        marks=tuple(marks),
        caption="T is the transition matrix. Asymmetric noise strikes some classes only. Error bars: Student's 95 % "
        "interval over the seeds.",
    )


def _transitions(rows: Sequence[Row], data: str, condition: Condition) -> Iterator[Figure]:
    held = estimates(rows, data, condition)
    if not held:
        return
    noise, rate = condition
    found = {
        "true": true_transition(data, condition).numpy(),
        f"estimated (n={len(held)})": np.mean(list(held.values()), axis=0),
    }
    places = np.arange(float(len(found["true"])))
    yield Figure(
        name=f"transition_{noise}_{data}",
        title=f"Transition matrix: {DATA_SETS[data].title}, {noise} noise of {rate:g}",
        x=Axis(label="noisy class"),
        y=Axis(label="true class"),
        z=Axis(label="probability"),
        marks=tuple(Mark(kind="heatmap", x=places, y=places, z=z, label=label) for label, z in found.items()),
        caption="The matrix that the labels are drawn by, and the mean over the seeds of its estimate after early "
        "stopping.",
    )
