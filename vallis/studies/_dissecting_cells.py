"""The cells of `wu2020_dissecting_hessian`: what is trained on what, in which way, and what is measured on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vallis.core.protocols import Model, Problem
from vallis.core.types import Job
from vallis.measurements.curvature.eigenspace_overlap import EigenspaceOverlap
from vallis.measurements.curvature.kronecker_structure import KroneckerStructure
from vallis.measurements.curvature.pac_bayes import PacBayes
from vallis.measurements.curvature.pac_bayes_identities import PacBayesIdentities
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.models.convnet import Convnet
from vallis.models.mlp import Mlp
from vallis.models.pooled_mlp import PooledMlp
from vallis.problems.cifar10 import Cifar10
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.fashion_mnist import FashionMnist
from vallis.problems.mnist import Mnist
from vallis.problems.subset import Subset
from vallis.training.gradient_descent import GradientDescent

DATA_SETS = {"digits": "handwritten digits", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
NUM_CLASSES = 10
FIRST = "hidden1"
LABELS, NORMS = ("true", "random"), ("none", "batch")
Tags = Mapping[str, str | bool]
# A pair is two networks that no other pair has a part in: the second one's seed is so much higher.
PARTNER = 1000


def cell(data: str, *, network: str = "mlp", norm: str = "none", labels: str = "true", trained: bool = True) -> Tags:
    """The tags of a network: "mlp" has two hidden layers, "one_hidden" and "one_wide" one; "bound" has bounds."""
    return {"data": data, "network": network, "norm": norm, "labels": labels, "trained": trained}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A data set with its networks.

    Attributes:
        pool: images are averaged over squares of this side.
        widths: units of the hidden layers.
        convnet: whether a convolutional network is trained on it as well.
        pair: two classes of it, or all of them, for the bounds.
        wide: the network of the bounds.
        structure: how layers are taken apart.
        overlap: how networks are compared.
        bounds: how bounds are computed.
        wide_width: units of the network of one hidden layer that has many more than classes.
    """

    data: str
    problem: Problem
    pool: int
    widths: tuple[int, ...]
    training: GradientDescent
    convnet: bool
    pair: Problem
    wide: Model
    bound_training: GradientDescent
    structure: KroneckerStructure
    overlap: EigenspaceOverlap
    bounds: PacBayes
    wide_width: int = 256

    def jobs(self, seed: int) -> Iterator[Job]:
        """All cells for one seed."""
        for norm in NORMS:
            for labels in LABELS:
                tags = cell(self.data, norm=norm, labels=labels)
                job = self._job(self._model(norm), tags, seed)
                yield replace(job, measurements=(GeneralizationGap(), self.structure, PacBayesIdentities()))
                yield replace(job, measurements=(self.overlap,), partner=replace(job, seed=seed + PARTNER))
                if self.convnet:
                    model = Convnet(channels=(4, 8), batch_norm=norm == "batch")
                    tags = cell(self.data, network="convnet", norm=norm, labels=labels)
                    yield replace(self._job(model, tags, seed), measurements=(self.structure,))
            yield from self._simple(norm, seed)
        for labels in LABELS:
            problem = Corrupted(base=self.pair, labels=float(labels == "random"))
            yield Job(
                problem=problem,
                model=self.wide,
                training=self.bound_training,
                measurements=(GeneralizationGap(), self.bounds),
                seed=seed,
                snapshots=(0,),
                tags=cell(self.data, network="bound", labels=labels),
            )

    def _simple(self, norm: str, seed: int) -> Iterator[Job]:
        """Networks of which the theory speaks: before training, and with one hidden layer."""
        first = replace(self.structure, layers=(FIRST,))
        networks = {"mlp": self.widths, "one_hidden": self.widths[:1], "one_wide": (self.wide_width,)}
        # Before training there are no statistics yet, and normalisation does nothing.
        for network, widths in networks.items() if norm == "none" else ():
            model = replace(self._model(norm), widths=widths)
            start = self._job(model, cell(self.data, network=network, trained=False), seed)
            yield replace(start, training=replace(self.training, max_steps=0), measurements=(first,))
        model = replace(self._model(norm), widths=self.widths[:1])
        tags = cell(self.data, network="one_hidden", norm=norm)
        yield replace(self._job(model, tags, seed), measurements=(first,))

    def _model(self, norm: str) -> PooledMlp:
        return PooledMlp(pool=self.pool, widths=self.widths, batch_norm=norm == "batch")

    def _job(self, model: Model, tags: Tags, seed: int) -> Job:
        problem = Corrupted(base=self.problem, labels=float(tags["labels"] == "random"))
        return Job(problem=problem, model=model, training=self.training, seed=seed, tags=tags)


def smoke() -> Sequence[Setting]:
    """A few digits, for a few steps."""
    structure = KroneckerStructure(num_top=12)
    bounds = PacBayes(axes=("standard", "curvature", "refreshed"), epochs=4, num_draws=50, num_test_draws=5)
    return (
        Setting(
            data="digits",
            problem=Subset(base=Digits(), num_train=150, num_test=100),
            pool=2,
            widths=(10, 10),
            training=_descent(0.05, 50, 120),
            convnet=True,
            pair=Subset(base=Digits(), classes=(3, 8)),
            wide=PooledMlp(pool=2, widths=(16,)),
            bound_training=_descent(0.05, 50, 60),
            structure=structure,
            overlap=EigenspaceOverlap(),
            bounds=bounds,
        ),
    )


def laptop() -> Sequence[Setting]:
    """Images shrunk to about 50 numbers, so that the Hessian of every layer can be written out."""
    clothes = FashionMnist(num_train=1000, num_test=1000)
    things = Cifar10(variant="mini", num_train=1000, num_test=1000)
    pairs: dict[str, tuple[Problem, int, Problem]] = {
        "digits": (Digits(), 1, Subset(base=Digits(), classes=(3, 8))),
        "fashion_mnist": (clothes, 4, Subset(base=FashionMnist(), classes=(0, 1), num_train=2000, num_test=1000)),
        "cifar10": (things, 8, Subset(base=Cifar10(variant="mini"), classes=(0, 1))),
    }
    bounds = PacBayes(axes=("standard", "curvature", "refreshed"), epochs=100, num_draws=2000, num_test_draws=50)
    return [
        Setting(
            data=data,
            problem=problem,
            pool=pool,
            widths=(16, 16),
            training=_descent(0.02, 64, 1000),
            convnet=data == "digits",
            pair=pair,
            wide=PooledMlp(pool=pool, widths=(64,)),
            bound_training=_descent(0.05, 100, 600),
            structure=KroneckerStructure(),
            overlap=EigenspaceOverlap(dense_size=300),
            bounds=bounds,
        )
        for data, (problem, pool, pair) in pairs.items()
    ]


def paper() -> Sequence[Setting]:
    """Networks of two hidden layers of 200, learning rate 0.01, 1000 epochs; bounds for 600 hidden units.

    Batch size 128 is what reruns use. The directory names of the authors' code say the rest, and that there is a LeNet5
    beside; bounds are for all classes.
    """
    problems: dict[str, Problem] = {"digits": Mnist(), "fashion_mnist": FashionMnist(), "cifar10": Cifar10()}
    bounds = PacBayes(
        axes=("standard", "curvature", "refreshed"), epochs=2000, learning_rate=1e-3, decay_every=400, num_draws=50_000
    )
    return [
        Setting(
            data=data,
            problem=problem,
            pool=1,
            widths=(200, 200),
            training=replace(_descent(0.01, 128, 469_000), momentum=0.0),
            convnet=False,
            pair=problem,
            wide=Mlp(widths=(600,)),
            bound_training=_descent(0.01, 100, 12_000),
            structure=KroneckerStructure(precision="float64"),
            overlap=EigenspaceOverlap(num_top=500, max_products=5000, tolerance=1e-4),
            bounds=bounds,
            wide_width=2000,
        )
        for data, problem in problems.items()
    ]


def _descent(learning_rate: float, batch_size: int, max_steps: int) -> GradientDescent:
    return GradientDescent(learning_rate=learning_rate, momentum=0.9, batch_size=batch_size, max_steps=max_steps)
