"""The cells of `sun2020_global_landscape`: what is trained for each check of the survey, and what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from vallis.core.protocols import Model, Problem
from vallis.core.types import Job
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.measurements.landscape.basin_exit import BasinExit
from vallis.measurements.landscape.constructed_minimum import ConstructedMinimum
from vallis.measurements.landscape.exponential_neuron import ExponentialNeuron
from vallis.measurements.landscape.loss_slice import LossSlice
from vallis.measurements.landscape.mode_connectivity import ROUTES, ModeConnectivity
from vallis.measurements.landscape.path_to_infinity import PathToInfinity
from vallis.measurements.landscape.stationary_point import StationaryPoint
from vallis.models.mlp import Mlp
from vallis.problems.digits import Digits
from vallis.problems.fashion_mnist import FashionMnist
from vallis.problems.spirals import Spirals
from vallis.problems.subset import Subset
from vallis.training.gradient_descent import GradientDescent
from vallis.training.iterative_pruning import IterativePruning, Start

Tags = Mapping[str, str | int]
DATA_SETS = {"digits": "handwritten digits", "fashion_mnist": "Fashion-MNIST"}
# From as many units on as examples another network fits them all.
WIDTHS = (50, 200, 1000)
STARTS: tuple[Start, ...] = ("rewind", "reinitialise", "random_mask")
# A pair is two networks that no other pair has a part in: the second one's seed is so much higher.
PARTNER = 1000
# Two classes that are told apart without an error.
PAIR = Subset(base=Digits(), classes=(3, 8))
# Fewer held out than usual, so that the second network of a pair, whose split is another, saw nearly the same examples.
NEARLY_ALL = Digits(test_fraction=0.05)


def construction(width: int) -> Tags:
    """The tags of the bad points that are written down."""
    return {"check": "construction", "width": width}


def exit_of(width: str) -> Tags:
    """The tags of a "wide" or "narrow" network whose basin is to be left."""
    return {"check": "exit", "width": width}


def neuron(start: str) -> Tags:
    """The tags of an exponential unit beside a network that is "fresh", with all yet to learn, or "dead"."""
    return {"check": "neuron", "start": start}


def separable(decay: str) -> Tags:
    """The tags of a training on two classes, "without" weight decay or "with" it."""
    return {"check": "separable", "decay": decay}


def modes(data: str) -> Tags:
    """The tags of a pair of networks."""
    return {"check": "modes", "data": data}


def lottery(start: str) -> Tags:
    """The tags of a pruned network, by how its last round starts."""
    return {"check": "lottery", "start": start}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is spent.

    Attributes:
        num_seeds: networks a cell.
        widths: of the constructions.
        short: steps of the trainings of the smaller checks.
        long: steps of the trainings that are followed to infinity.
        neuron_steps: of the descent beside an exponential unit.
        pairs: for each data set the problem, the hidden widths and the steps of its pairs.
        modes: how two networks are compared.
        ticket: hidden widths of the pruned network.
        ticket_steps: of each round.
        rounds: of pruning.
    """

    num_seeds: int
    widths: tuple[int, ...]
    short: int
    long: int
    neuron_steps: int
    pairs: Mapping[str, tuple[Problem, tuple[int, ...], int]]
    modes: ModeConnectivity
    ticket: tuple[int, ...]
    ticket_steps: int
    rounds: int

    def jobs(self) -> Iterator[Job]:
        """All jobs, seed after seed."""
        for seed in range(self.num_seeds):
            yield from self._points(seed)
            yield from self._infinity(seed)
            yield from self._pairs(seed)
            yield from self._lottery(seed)

    def _points(self, seed: int) -> Iterator[Job]:
        brief = GradientDescent(learning_rate=0.1, momentum=0.9, batch_size=64, max_steps=self.short)
        for width in self.widths:
            asked = ConstructedMinimum(width=width, seed=seed)
            yield _job(seed, construction(width), Spirals(), Mlp(widths=(16,)), brief, asked)
        leaving = BasinExit(shakes=(1e-1, 1e-2, 1e-3, 1e-4), max_examples=100)
        for name, width in (("wide", 128), ("narrow", 20)):
            yield _job(seed, exit_of(name), Digits(), Mlp(widths=(width,), activation="tanh"), brief, leaving)
        for start, before in (("fresh", replace(brief, max_steps=1)), ("dead", brief)):
            beside = ExponentialNeuron(num_steps=self.neuron_steps, dead=start == "dead", seed=seed)
            yield _job(seed, neuron(start), PAIR, Mlp(widths=(16,)), before, beside)

    def _infinity(self, seed: int) -> Iterator[Job]:
        snapshots = tuple(sorted({round(self.long * 10**-power) for power in (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3)}))
        for decay, strength in (("without", 0.0), ("with", 1e-2)):
            training = GradientDescent(learning_rate=0.2, batch_size=None, weight_decay=strength, max_steps=self.long)
            asked = (PathToInfinity(), StationaryPoint(gradient_tolerance=1e-2, curvature_tolerance=1e-2))
            yield _job(seed, separable(decay), PAIR, Mlp(widths=(16,)), training, *asked, snapshots=snapshots[:-1])

    def _pairs(self, seed: int) -> Iterator[Job]:
        for data, (problem, widths, steps) in self.pairs.items():
            training = GradientDescent(
                optimizer="Adam", learning_rate=3e-3, batch_size=64, schedule="cosine", max_steps=steps
            )
            partner = Job(problem=problem, model=Mlp(widths=widths), training=training, seed=seed + PARTNER)
            asked = (self.modes, LossSlice(max_examples=2000))
            yield _job(seed, modes(data), problem, Mlp(widths=widths), training, *asked, partner=partner)

    def _lottery(self, seed: int) -> Iterator[Job]:
        round_ = GradientDescent(learning_rate=0.1, batch_size=128, max_steps=self.ticket_steps)
        for start in STARTS:
            training = IterativePruning(base=round_, num_rounds=self.rounds, start=start)
            yield _job(seed, lottery(start), Digits(), Mlp(widths=self.ticket), training, GeneralizationGap())


def _job(
    seed: int,
    tags: Tags,
    problem: Problem,
    model: Model,
    training: GradientDescent | IterativePruning,
    *asked: object,
    snapshots: tuple[int, ...] = (),
    partner: Job | None = None,
) -> Job:
    return Job(
        problem=problem,
        model=model,
        training=training,
        measurements=asked,  # type: ignore[arg-type]
        seed=seed,
        snapshots=snapshots,
        partner=partner,
        tags=dict(tags),
    )


SMOKE = Scale(
    num_seeds=2,
    widths=(50,),
    short=30,
    long=100,
    neuron_steps=50,
    pairs={"digits": (NEARLY_ALL, (12,), 60)},
    modes=ModeConnectivity(routes=ROUTES, num_points=5, tolerance=0.1, num_steps=20, num_cycles=1, steps_per_cycle=3,
                           num_points_plane=3, max_examples=200),
    ticket=(20,),
    ticket_steps=20,
    rounds=2,
)  # fmt: skip
LAPTOP = Scale(
    num_seeds=5,
    widths=WIDTHS,
    short=300,
    long=10_000,
    neuron_steps=2000,
    pairs={"digits": (NEARLY_ALL, (40, 40), 800), "fashion_mnist": (FashionMnist(), (64, 64), 1500)},
    modes=ModeConnectivity(routes=ROUTES, num_steps=1500, max_examples=1000),
    ticket=(300, 100),
    ticket_steps=400,
    rounds=7,
)
PAPER = Scale(
    num_seeds=8,
    widths=(*WIDTHS, 5000),
    short=1000,
    long=100_000,
    neuron_steps=20_000,
    pairs={"digits": (NEARLY_ALL, (100, 100), 2000), "fashion_mnist": (FashionMnist(), (200, 200), 9400)},
    modes=ModeConnectivity(routes=ROUTES, num_steps=10_000, num_cycles=8, steps_per_cycle=200, max_examples=10_000,
                           num_points_plane=25),
    ticket=(300, 100),
    ticket_steps=4000,
    rounds=12,
)  # fmt: skip
SCALES = {"smoke": SMOKE, "laptop": LAPTOP, "paper": PAPER}
