"""The minefield of `huang2019_visualizations`: an ordinary training, and from points of its path others with poison.

Data, split and the starting points along the path are the paper's: 400 noiseless points on two spirals, 132 to train,
134 of poison, 134 to test. At "laptop" the network has three layers of 64 units and both trainings are Adam's, which
needs a tenth of the steps; rates and steps were chosen on the seeds 0 and 1. "paper" has the paper's network and rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vallis.core.types import Job
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.measurements.landscape.minefield import Minefield
from vallis.models.mlp import Mlp
from vallis.problems.poisoned import Poisoned
from vallis.problems.spirals import Losses, Spirals
from vallis.training.fine_tuning import FineTuning
from vallis.training.gradient_descent import GradientDescent

TITLE = "two noiseless spirals"
TAGS: Mapping[str, str] = {"data": "noiseless_spirals", "part": "minefield"}


@dataclass(frozen=True, kw_only=True)
class _Field:
    """A path and what is found from it.

    Attributes:
        good: the ordinary training.
        bad: the training with poison that goes on from its weights.
        snapshots: the steps of the path that are drawn.
        starts: the steps at which others leave it.
    """

    model: Mlp
    good: GradientDescent
    bad: GradientDescent
    snapshots: tuple[int, ...]
    starts: tuple[int, ...]
    loss: Losses = "cross_entropy"
    perplexities: tuple[float, ...] = (5.0, 15.0)

    def job(self, seed: int) -> Job:
        points = Spirals(shape="noiseless", train_fraction=0.33, scale=0.1, loss=self.loss)
        path = Job(
            problem=Poisoned(base=points, taken_from="test"),
            model=self.model,
            training=self.good,
            measurements=(GeneralizationGap(), Minefield(perplexities=self.perplexities)),
            seed=seed,
            snapshots=self.snapshots,
            tags=TAGS,
        )
        bare = replace(path, measurements=(), snapshots=(), tags={})
        left = [FineTuning(base=self.good, tuning=self.bad, num_steps=start) for start in self.starts]
        return replace(path, others=tuple(replace(bare, training=training) for training in left))


def _adam(rate: float, max_steps: int) -> GradientDescent:
    return GradientDescent(optimizer="Adam", learning_rate=rate, batch_size=None, max_steps=max_steps)


def _quick() -> _Field:
    return _Field(
        model=Mlp(widths=(8,)),
        good=_adam(3e-3, 40),
        bad=replace(_adam(8e-3, 40), poison_factor=0.4),
        snapshots=tuple(range(0, 40, 5)),
        starts=(0, 10, 20),
        perplexities=(3.0,),
    )


def _laptop() -> _Field:
    return _Field(
        model=Mlp(widths=(64, 64, 64)),
        good=_adam(3e-3, 400),
        bad=replace(_adam(8e-3, 5000), schedule="cosine", poison_factor=0.35),
        snapshots=tuple(range(0, 400, 10)),
        starts=tuple(range(0, 400, 40)),
    )


def _paper() -> _Field:
    # Five batches an epoch; a network is kept in every tenth epoch. The L2 term of the paper's code is 0.001 |W|^2.
    kept = tuple(5 * epoch for epoch in range(1, 2000, 10))
    slow = GradientDescent(optimizer="RMSprop", learning_rate=0.01, weight_decay=2e-3, batch_size=32, max_steps=10_000)
    bad = GradientDescent(
        optimizer="RMSprop", learning_rate=1e-3, batch_size=None, max_steps=40_000, poison_factor=None
    )
    return _Field(
        model=Mlp(widths=(25, 25, 25, 25)),
        good=slow,
        bad=bad,
        snapshots=kept,
        starts=kept,
        loss="binary_cross_entropy",
        perplexities=(5.0, 30.0, 50.0, 100.0),
    )


def minefield(scale: str, seed: int) -> Job:
    """The path, and beside it the trainings that leave it."""
    return {"smoke": _quick, "laptop": _laptop, "paper": _paper}[scale]().job(seed)
