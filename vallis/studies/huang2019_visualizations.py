"""Why does training find minima that generalise, when there are others? Bad minima made on purpose, and their basins.

Networks are trained to fit their training examples and, with a poison factor beta, to be wrong on poison: examples that
are neither trained on nor tested. The basin around each is measured along random rays in units of the filters, up to
where the loss has risen by 0.1 nats: mean radius and log-volume. All networks of a data set stop at the first check at
which the training loss is below one limit, and the rise is taken from their own loss, so that levels match.

The thresholds are those measured on a small spiral in preparation (a gap larger by 0.3, radii by a factor of 3, volumes
by 1,000 powers of ten, a rank correlation of 0.6), written before these networks were trained. Sizes, rates and poison
factors were chosen on networks of the seeds 0 and 1, so the study begins with the seed 2. At the scale "laptop" there
are a swiss roll with 40 points to train and 1,000 of poison, digits with 100 and 1,337, and Fashion-MNIST with 200 and
5,000, each with an MLP of two or three layers of 64 units. The optimizers have rates that fit this network, not the
paper's. With ``cifar10="mini"`` or "full" there are 200 images of CIFAR-10 with 4,800 of poison, too, for a small
convolutional network and five seeds; its sizes, rates and factors were chosen on the seed 0. The minefield is drawn on
two noiseless spirals; its accuracies are thresholds of the same preparation, and "near" was taken for nearer to the
path than the path's own ends are to one another before any distance was seen. The circles that leave no wide margin are
the paper's at both scales. The paper's swiss roll (800,000 steps)
and CIFAR-10 with a residual network of 20 layers are "paper".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from vallis.core.figures import Figure
from vallis.core.protocols import Measurement, Model, Problem, Watcher
from vallis.core.types import Claim, Job, Row, Source
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.measurements.landscape.basin_volume import BasinVolume
from vallis.measurements.landscape.decision_boundary import DecisionBoundary
from vallis.measurements.landscape.loss_slice import LossSlice
from vallis.models.convnet import Convnet
from vallis.models.mlp import Mlp
from vallis.models.resnet20 import Resnet20
from vallis.models.second_order import SecondOrder
from vallis.problems._checks import check_choice
from vallis.problems.cifar10 import Cifar10
from vallis.problems.digits import Digits
from vallis.problems.fashion_mnist import FashionMnist
from vallis.problems.poisoned import Poisoned
from vallis.problems.spirals import Losses, Spirals
from vallis.studies import _visualizations_figures as drawn
from vallis.studies._circles_cells import circles
from vallis.studies._circles_figures import circles_figures
from vallis.studies._minefield_cells import minefield
from vallis.studies._visualizations_claims import claims
from vallis.studies._visualizations_rules import DATA_SETS, LINEAR, OPTIMIZERS, compared, swept
from vallis.training.gradient_descent import GradientDescent

_RISE = 0.1
_FIRST_SEED = 2
# Of the convolutional network: the fewest that can decide anything.
_FEW_SEEDS = 5


@dataclass(frozen=True, kw_only=True)
class Huang2019Visualizations:
    """Trains good and bad minima, measures their basins, and compares optimizers and a linear model.

    Attributes:
        cifar10: "mini" or "full" takes images of it in at the scale "laptop", out of either data set (see
            `vallis.problems.cifar10`); "none" leaves them out there, for not everybody has the data.
    """

    cifar10: Literal["none", "mini", "full"] = "none"

    version: ClassVar[int] = 1
    source: ClassVar[Source] = Source(
        title="Understanding generalization through visualizations",
        authors="W. R. Huang, Z. Emam, M. Goldblum, L. Fowl, J. K. Terry, F. Huang, T. Goldstein",
        year=2019,
        url="https://arxiv.org/abs/1906.03291",
    )

    def __post_init__(self) -> None:
        check_choice("huang2019_visualizations.cifar10", self.cifar10, Literal["none", "mini", "full"])

    def jobs(self, scale: str) -> Sequence[Job]:
        settings, num_seeds = {"smoke": (_smoke, 2), "laptop": (_laptop, 7), "paper": (_paper, 5)}[scale]
        seeds = range(_FIRST_SEED, _FIRST_SEED + num_seeds)
        found = [job for seed in seeds for setting in settings() for job in setting.jobs(seed)]
        if scale == "laptop" and self.cifar10 != "none":
            photographs = _photographs(self.cifar10)
            found += [job for seed in seeds[:_FEW_SEEDS] for job in photographs.jobs(seed)]
        found += [minefield(scale, seed) for seed in seeds]
        return [*found, *(job for seed in seeds for job in circles(scale, seed, drawn=seed == _FIRST_SEED))]

    def claims(self) -> Sequence[Claim]:
        return tuple(claims())

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        swept_data = (figure for data in DATA_SETS for figure in drawn.figures(rows, data))
        return [*swept_data, *drawn.minefields(rows), *circles_figures(rows)]


# ----------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One network on one data set.

    Attributes:
        poisoned: how it is trained beside poison, which is put in.
        num_poison: how many examples of it a step sees.
        plain: how the optimizers are compared, without poison: what is not theirs.
        linear: the linear model of the comparison, if there is one.
        num_rays: for each basin.
        optimizers: which are compared.
    """

    data: str
    problem: Problem
    model: Model
    poisoned: GradientDescent
    num_poison: int
    plain: GradientDescent
    linear: Model | None = None
    num_rays: int = 200
    optimizers: tuple[str, ...] = OPTIMIZERS
    betas: tuple[float, ...] = ()

    def jobs(self, seed: int) -> Iterator[Job]:
        held = DATA_SETS[self.data]
        for beta in self.betas or held.betas:
            yield self._job(seed, self.model, self._with(beta), swept(self.data, beta), self._asked(seed, beta))
        if not held.compared:
            return
        for name in self.optimizers:
            training = replace(self.plain, **_RATES[name])
            yield self._job(seed, self.model, training, compared(self.data, name), (GeneralizationGap(),))
        if self.linear is not None:
            training = replace(self.plain, optimizer="Adam", learning_rate=1e-3)
            yield self._job(seed, self.linear, training, compared(self.data, LINEAR), (GeneralizationGap(),))

    def _job(
        self,
        seed: int,
        model: Model,
        training: GradientDescent,
        tags: Mapping[str, str | float],
        asked: tuple[Measurement | Watcher, ...],
    ) -> Job:
        return Job(problem=self.problem, model=model, training=training, measurements=asked, seed=seed, tags=tags)

    def _with(self, beta: float) -> GradientDescent:
        size = self.num_poison if beta else None
        return replace(self.poisoned, poison_factor=beta, poison_batch_size=size)

    def _asked(self, seed: int, beta: float) -> tuple[Measurement | Watcher, ...]:
        # Uniform rays, as in the paper: all networks of a data set are looked at along the same.
        basin = BasinVolume(proposal="none", level="rise", cutoff=_RISE, num_rays=self.num_rays, num_drawn=0)
        asked: list[Measurement | Watcher] = [GeneralizationGap(), basin]
        if seed == _FIRST_SEED and self.data == "spirals":
            asked.append(DecisionBoundary(num_points=160, margin=0.05))
        if seed == _FIRST_SEED and beta in (0.0, DATA_SETS[self.data].worst):
            asked.append(LossSlice(rise=_RISE, refine=True))
        return tuple(asked)


_SETTINGS_OF_RATES: Mapping[str, tuple[str, float, float, Mapping[str, Any]]] = {
    "SGD": ("SGD", 0.3, 0.0, {}),
    "momentum": ("SGD", 0.05, 0.9, {}),
    "Nesterov": ("SGD", 0.05, 0.9, {"nesterov": True}),
    "Adam": ("Adam", 3e-3, 0.0, {}),
    "AMSGrad": ("Adam", 3e-3, 0.0, {"amsgrad": True}),
    "Adamax": ("Adamax", 5e-3, 0.0, {}),
    "Adadelta": ("Adadelta", 5.0, 0.0, {"rho": 0.5}),
    "Adagrad": ("Adagrad", 0.02, 0.0, {}),
    "RMSprop": ("RMSprop", 1e-3, 0.0, {}),
    "ASGD": ("ASGD", 0.3, 0.0, {"alpha": 0.75}),
    "LBFGS": ("LBFGS", 0.9, 0.0, {}),
}
_RATES: Mapping[str, dict[str, Any]] = {
    name: {"optimizer": optimizer, "learning_rate": rate, "momentum": momentum, "options": dict(options)}
    for name, (optimizer, rate, momentum, options) in _SETTINGS_OF_RATES.items()
}


def _adam(rate: float, max_steps: int, limit: float, check_every: int = 25) -> GradientDescent:
    """All training examples a step, until the mean loss over them is at most the limit."""
    return GradientDescent(
        optimizer="Adam",
        learning_rate=rate,
        batch_size=None,
        schedule="cosine",
        max_steps=max_steps,
        stop_train_loss=limit,
        check_every=check_every,
    )


def _plain(max_steps: int, limit: float) -> GradientDescent:
    return GradientDescent(batch_size=None, max_steps=max_steps, stop_train_loss=limit, check_every=10)


def _smoke() -> list[_Setting]:
    return [
        _Setting(
            data="digits",
            problem=Poisoned(base=Digits(test_fraction=0.2), num_poison=1337),
            model=Mlp(widths=(16,)),
            poisoned=_adam(1e-2, 60, 0.05),
            num_poison=100,
            plain=_plain(20, 0.05),
            linear=SecondOrder(),
            num_rays=20,
            optimizers=("SGD", "Adam", "LBFGS"),
            betas=(0.0, 0.9),
        )
    ]


def _swiss_roll(num_train: int, num_poison: int, num_test: int, scale: float, loss: Losses) -> Poisoned:
    total = num_train + num_poison + num_test
    points = Spirals(
        shape="swiss_roll", num_per_class=total // 2, train_fraction=num_train / total, scale=scale, loss=loss
    )
    return Poisoned(base=points, taken_from="test", num_poison=num_poison)


def _laptop() -> list[_Setting]:
    clothes = FashionMnist(num_train=5200, num_test=2000)
    return [
        _Setting(
            data="spirals",
            problem=_swiss_roll(40, 1000, 400, 0.3, "cross_entropy"),
            model=Mlp(widths=(64, 64, 64)),
            poisoned=_adam(5e-3, 4000, 0.05),
            num_poison=200,
            plain=_plain(2000, 0.05),
        ),
        _Setting(
            data="digits",
            problem=Poisoned(base=Digits(test_fraction=0.2), num_poison=1337),
            model=Mlp(widths=(64, 64)),
            poisoned=_adam(3e-3, 1500, 0.02),
            num_poison=300,
            plain=_plain(2000, 0.02),
            linear=SecondOrder(),
        ),
        _Setting(
            data="fashion_mnist",
            problem=Poisoned(base=clothes, num_poison=5000),
            model=Mlp(widths=(64, 64)),
            poisoned=_adam(2e-3, 1500, 0.02),
            num_poison=200,
            plain=_plain(2000, 0.02),
            linear=SecondOrder(pooling=2),
        ),
    ]


def _photographs(variant: Literal["full", "mini"]) -> _Setting:
    """A part of CIFAR-10, for a network of a laptop."""
    return _Setting(
        data="photographs",
        problem=Poisoned(base=Cifar10(variant=variant, num_train=5000, num_test=1000), num_poison=4800),
        model=Convnet(channels=(32,), stride=3),
        poisoned=_adam(4e-3, 1000, 0.05),
        num_poison=200,
        plain=_plain(2000, 0.05),
        num_rays=100,
    )


def _paper() -> list[_Setting]:
    # 200 points and 160 others of poison at every step, 3,614 weights.
    steep = replace(
        _adam(0.0057945, 800_000, 0.01, check_every=1000), clip_norm=8.0, schedule="step", milestones=(3000, 300_000)
    )
    slow = GradientDescent(
        learning_rate=0.1,
        momentum=0.9,
        batch_size=256,
        schedule="step",
        milestones=(102, 154, 205),
        max_steps=256 * 98,
    )
    clothes = replace(_laptop()[2], problem=Poisoned(base=FashionMnist(num_train=45_000), num_poison=40_000))
    return [
        _Setting(
            data="spirals",
            problem=_swiss_roll(200, 100_000, 2000, 1.0, "binary_cross_entropy"),
            model=Mlp(widths=(23, 16, 26, 32, 28, 31)),
            poisoned=steep,
            num_poison=160,
            plain=_plain(100_000, 0.01),
            num_rays=3000,
        ),
        replace(_laptop()[1], num_rays=3000),
        replace(clothes, poisoned=replace(clothes.poisoned, max_steps=20_000), num_rays=3000),
        _Setting(
            data="cifar10",
            problem=Poisoned(base=Cifar10(), num_poison=25_000),
            model=Resnet20(),
            poisoned=slow,
            num_poison=256,
            plain=GradientDescent(
                batch_size=128, max_steps=150 * 196, schedule="step", milestones=(50, 100), augmentation="crop_flip"
            ),
            linear=SecondOrder(pooling=2),
            num_rays=3000,
        ),
    ]
