"""The networks that `zhang2017_randomization` trains, and on what.

At the scale "laptop" everything is made random for fully connected networks of the paper's 512 hidden units and for
small convolutional ones, and the regularisers of section 3 are tried with the latter. Sizes of data, rates and numbers
of steps were set after a trial with one seed that is none of the study's, so that a network with dropout fits random
labels and the whole takes a quarter of an hour on two cores; the thresholds of the claims are older. With augmentation
the steps are not enough for random labels, and a claim that fails for it speaks of these small networks and so many
steps. The paper decays the rate more slowly for random labels with augmentation (0.999 an epoch instead of 0.95) and
trains for longer; so does the scale "paper" here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vallis.core.protocols import Measurement, Model, Problem, Training, Watcher
from vallis.core.types import Job
from vallis.measurements.fit.early_stopping_potential import EarlyStoppingPotential
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.measurements.fit.learning_curve import LearningCurve
from vallis.measurements.interpolation.finite_sample_expressivity import FiniteSampleExpressivity
from vallis.measurements.interpolation.implicit_minimum_norm import ImplicitMinimumNorm
from vallis.measurements.interpolation.kernel_interpolation import KernelInterpolation
from vallis.models.alexnet_small import AlexnetSmall
from vallis.models.convnet import Convnet
from vallis.models.inception_small import InceptionSmall
from vallis.models.memorizing_network import MemorizingNetwork
from vallis.models.mlp import Mlp
from vallis.problems.cifar10 import Cifar10
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.fashion_mnist import FashionMnist
from vallis.problems.subset import Subset
from vallis.studies._closed_form_rules import (
    CONSTRUCTED,
    GABOR,
    LABELS,
    PAIR,
    RANDOM_CONVOLUTIONS,
    RIDGE,
    RIDGE_ON_CONVOLUTIONS,
)
from vallis.studies._randomization_rules import (
    DATA_SETS,
    NOISES,
    RANDOM_LABELS,
    WEIGHT_DECAY,
    Fractions,
    Variant,
    cell,
)
from vallis.studies._regularization_rules import DROPOUT, REGULARIZED, REGULARIZERS
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One network on one data set, trained in one way whatever is made random.

    Attributes:
        num_seeds: how many networks of each cell.
        slow_decay: of the rate, an epoch, on random labels with augmentation; None leaves the training's own.
    """

    data: str
    network: str
    problem: Problem
    model: Model
    training: GradientDescent
    num_seeds: int
    slow_decay: float | None = None

    def jobs(self, shares: Fractions) -> Iterator[Job]:
        """Every cell and seed."""
        for seed in range(self.num_seeds):
            yield from self.cells(seed, shares)

    def cells(self, seed: int, shares: Fractions) -> Iterator[Job]:
        """Every cell of a seed."""
        yield from (self.job(seed, variant) for variant in self._variants(shares))

    def _variants(self, shares: Fractions) -> Iterator[Variant]:
        data, regularized = DATA_SETS.get(self.data), REGULARIZED.get(self.data)
        if self.data == PAIR:
            yield RANDOM_LABELS
        elif data is not None and self.network in data.networks:
            yield from ({"labels": share} for share in shares)
            yield from ({"pixels": noise} for noise in NOISES)
            yield from ({**labels, "weight_decay": WEIGHT_DECAY} for labels in LABELS)
        elif data is not None and self.network == data.convnet:
            yield from ({}, {"pixels": "shuffled"})
        else:
            yield from ({}, RANDOM_LABELS)
        if regularized is not None and self.network in regularized.networks:
            # Where everything is made random, weight decay is there already.
            names = [name for name in regularized.names if name != "weight_decay" or data is None]
            yield from (REGULARIZERS[name] for name in names)
            yield from ({**RANDOM_LABELS, **REGULARIZERS[name]} for name in names if name != "crop_and_weight_decay")

    def job(self, seed: int, variant: Variant) -> Job:
        """The network of this seed, trained on a variant."""
        tags = cell(self.data, self.network, variant)
        asked: tuple[Measurement | Watcher, ...] = (GeneralizationGap(), LearningCurve())
        # Figure 2 of the paper: of the networks that the regularisers are tried on, while they learn true labels.
        on_the_way = self.data in REGULARIZED and tags == cell(self.data, self.network, {})
        return Job(
            problem=Corrupted(base=self.problem, labels=tags["labels"], pixels=tags["pixels"]),  # type: ignore[arg-type]
            model=self._model(str(tags["regularizer"])),
            training=self._training(tags),
            measurements=(*asked, EarlyStoppingPotential()) if on_the_way else asked,
            seed=seed,
            snapshots=moments(self.training.max_steps) if on_the_way else (),
            tags=tags,
        )

    def _model(self, regularizer: str) -> Model:
        return replace(self.model, dropout=DROPOUT) if regularizer == "dropout" else self.model  # type: ignore[type-var]

    def _training(self, tags: Variant) -> Training:
        training = replace(self.training, weight_decay=tags["weight_decay"])  # type: ignore[arg-type]
        regularizer = tags["regularizer"]
        if regularizer in _AUGMENTED:
            training = replace(training, augmentation=_AUGMENTED[str(regularizer)])
            if self.slow_decay is not None and tags["labels"] == 1:
                training = replace(training, decay=self.slow_decay, max_steps=2 * training.max_steps)
        return EarlyStopping(base=training, check_every=50) if regularizer == "early_stopping" else training


_AUGMENTED: dict[str, Literal["shift", "crop_flip", "flip_rotate"]] = {
    "crop": "shift",
    "crop_flip": "crop_flip",
    "flip_rotate": "flip_rotate",
}


def moments(max_steps: int) -> tuple[int, ...]:
    """The steps at which a training is looked at: from 8 on, two for each doubling."""
    steps = [round(2 ** (k / 2)) for k in range(6, 2 * max_steps.bit_length())]
    return tuple(step for step in steps if step < max_steps)


@dataclass(frozen=True, kw_only=True)
class Building:
    """What is built in closed form on true and on random labels of a data set; nothing is trained."""

    data: str
    problem: Problem
    num_seeds: int

    def jobs(self, shares: Fractions) -> Iterator[Job]:
        """Every seed; the shares are not asked for."""
        for seed in range(self.num_seeds):
            yield from self.cells(seed)

    def cells(self, seed: int) -> Iterator[Job]:
        """Every cell of a seed."""
        asked: tuple[Measurement, ...] = (
            GeneralizationGap(),
            FiniteSampleExpressivity(),
            ImplicitMinimumNorm(),
            KernelInterpolation(rivals=True),
        )
        # A row is found by its measurement's name, so each other kernel stands beside a network of its own depth.
        others: dict[str, tuple[Measurement, ...]] = {name: (kernel,) for name, kernel in _KERNELS.items()}
        for variant in LABELS:
            problem = Corrupted(base=self.problem, labels=float(variant.get("labels", 0.0)))
            for depth, (network, measurements) in enumerate({CONSTRUCTED: asked, **others}.items(), start=2):
                if not variant or network in (CONSTRUCTED, GABOR):
                    yield Job(
                        problem=problem,
                        model=MemorizingNetwork(depth=depth),
                        training=GradientDescent(max_steps=0),
                        measurements=measurements,
                        seed=seed,
                        tags=cell(self.data, network, variant),
                    )


# In units of the mean of the kernel's diagonal: of 0.001, 0.01 and 0.1 the one with the lower test errors in a trial
# with a seed that is none of the study's. No claim hangs on it.
_PENALTY = 0.001
_CONVOLUTIONS = KernelInterpolation(kernel="linear", features="random_convolutions", num_filters=128)
_KERNELS: dict[str, KernelInterpolation] = {
    GABOR: KernelInterpolation(features="gabor"),
    RIDGE: KernelInterpolation(penalty=_PENALTY),
    RANDOM_CONVOLUTIONS: _CONVOLUTIONS,
    RIDGE_ON_CONVOLUTIONS: replace(_CONVOLUTIONS, penalty=_PENALTY),
}


def _until_fitted(learning_rate: float, batch_size: int, max_steps: int) -> GradientDescent:
    return GradientDescent(
        learning_rate=learning_rate,
        momentum=0.9,
        batch_size=batch_size,
        max_steps=max_steps,
        stop_train_accuracy=1.0,
    )


def _convnets(data: str, problem: Problem, model: Convnet, training: GradientDescent, num_seeds: int) -> list[Setting]:
    """A convolutional network, and the same with batch normalisation."""
    return [
        Setting(data=data, network=name, problem=problem, model=net, training=training, num_seeds=num_seeds)
        for name, net in (("convnet", model), ("convnet_with_norm", replace(model, batch_norm=True)))
    ]


def smoke() -> list[Setting | Building]:
    """Few digits, small networks and two seeds: everything runs, nothing can be decided."""
    few, training, n = Subset(base=Digits(), num_train=100, num_test=100), _until_fitted(0.05, 25, 400), 2
    few_digits = Subset(base=Digits(), num_train=400, num_test=100)
    pair = Subset(base=Digits(), num_train=100, num_test=40, classes=(3, 8))
    mlp, convnet = Mlp(widths=(64,)), Convnet(channels=(4, 8))
    return [
        Setting(data="digits", network="mlp", problem=few, model=mlp, training=training, num_seeds=n),
        Setting(data="digits", network="convnet", problem=few, model=convnet, training=training, num_seeds=n),
        Setting(data=PAIR, network="mlp", problem=pair, model=mlp, training=training, num_seeds=n),
        *_convnets("few_digits", few_digits, convnet, replace(training, max_steps=60), n),
        Building(data="digits", problem=few, num_seeds=n),
    ]


def laptop() -> list[Setting | Building]:
    """Digits and parts of Fashion-MNIST, five to eight seeds."""
    digits, clothes = Digits(test_fraction=0.5), FashionMnist(num_train=1000, num_test=2000)
    few_digits, few_clothes = Subset(base=digits, num_train=400), FashionMnist(num_train=500, num_test=1000)
    pair = Subset(base=digits, classes=(3, 8))
    training, brief = _until_fitted(0.05, 64, 8000), _until_fitted(0.05, 64, 3000)
    mlp, small, strided = Mlp(widths=(512,)), Convnet(channels=(16, 32)), Convnet(channels=(16, 32), stride=2)
    return [
        Setting(data="digits", network="mlp", problem=digits, model=mlp, training=training, num_seeds=8),
        Setting(data="digits", network="convnet", problem=digits, model=small, training=training, num_seeds=8),
        Setting(data="fashion_mnist", network="mlp", problem=clothes, model=mlp, training=training, num_seeds=5),
        Setting(
            data="fashion_mnist", network="convnet", problem=clothes, model=strided, training=training, num_seeds=5
        ),
        Setting(data=PAIR, network="mlp", problem=pair, model=mlp, training=training, num_seeds=8),
        *_convnets("few_digits", few_digits, small, brief, 5),
        *_convnets("few_clothes", few_clothes, strided, brief, 5),
        Building(data="digits", problem=digits, num_seeds=8),
        Building(data="fashion_mnist", problem=clothes, num_seeds=8),
    ]


def photographs(variant: Literal["full", "mini"]) -> list[Setting | Building]:
    """A part of CIFAR-10, prepared as in the paper, for networks of a laptop; five seeds."""
    problem = Cifar10(variant=variant, num_train=1000, num_test=1000, centre_crop=28, whiten="per_image")
    training = _until_fitted(0.01, 64, 8000)
    mlp, convnet = Mlp(widths=(512,)), Convnet(channels=(16, 32), stride=2)
    return [
        Setting(data="photographs", network="mlp", problem=problem, model=mlp, training=training, num_seeds=5),
        Setting(data="photographs", network="convnet", problem=problem, model=convnet, training=training, num_seeds=5),
    ]


# What the paper's networks are trained from: the initial rate, and a model.
PAPER: dict[str, tuple[Model, float]] = {
    "inception": (InceptionSmall(), 0.1),
    "inception_without_norm": (InceptionSmall(batch_norm=False), 0.1),
    "alexnet": (AlexnetSmall(), 0.01),
    "mlp_3x512": (Mlp(widths=(512, 512, 512)), 0.01),
    "mlp_1x512": (Mlp(widths=(512,)), 0.01),
}


def paper() -> list[Setting | Building]:
    """CIFAR-10 and the paper's networks, as far as it says how they were trained."""
    # Batch size, number of epochs and initial weights are not printed; 128 and 100 epochs are what reruns use.
    problem = Cifar10(centre_crop=28, whiten="per_image")
    trained = [
        Setting(
            data="cifar10",
            network=name,
            problem=problem,
            model=model,
            training=replace(_until_fitted(rate, 128, 39_100), schedule="exponential", decay=0.95),
            num_seeds=5,
            slow_decay=0.999,
        )
        for name, (model, rate) in PAPER.items()
    ]
    return [*trained, Building(data="cifar10", problem=Subset(base=problem, num_train=10_000), num_seeds=5)]


SCALES = {"smoke": smoke, "laptop": laptop, "paper": paper}
