"""Invented but plausible results: figures of every kind of mark, measurements that made them, a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Array, Claim, Estimate, Failed, NotApplicable, Note, Outcome, Result, Row, Source, Verdict

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1><!-- ${7*7} {{7*7}} %{x} $\\frac{"
GRID = np.linspace(-1, 1, 41)
SURFACE = 0.05 + 2.2 * GRID[None] ** 2 + 0.7 * GRID[:, None] ** 2 + 0.12 * np.cos(7 * GRID[None] - 4 * GRID[:, None])


def lines() -> Figure:
    step = np.arange(1, 301, 6)
    train, test = 2.3 * np.exp(-step / 60) + 0.02, 2.3 * np.exp(-step / 70) + 0.16
    return Figure(
        name="training_curves",
        title="Loss while training",
        x=Axis(label="step"),
        y=Axis(label="loss (nats)", scale="log"),
        marks=(
            Mark(kind="band", x=step, low=train * 0.8, high=train * 1.2, label="train"),
            Mark(kind="line", x=step, y=train, label="train"),
            Mark(kind="band", x=step, low=test * 0.85, high=test * 1.15, label="test"),
            Mark(kind="line", x=step, y=test, label="test"),
        ),
        caption="Mean over five seeds; the band is one standard deviation.",
    )


def bars(name: str = "accuracy") -> Figure:
    words = ("true labels", "shuffled pixels", "random labels")
    return Figure(
        name=name,
        title="Accuracy by kind of label",
        x=Axis(label="labels", scale="category"),
        y=Axis(label="accuracy"),
        marks=(
            Mark(kind="bar", x=words, y=[1.0, 1.0, 0.998], error=[0, 0, 0.001], label="train"),
            Mark(kind="bar", x=words, y=[0.972, 0.961, 0.101], error=[0.004, 0.005, 0.009], label="test"),
        ),
    )


def lying_bars() -> Figure:
    layers = ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]
    return Figure(
        name="trace_by_layer",
        title="Where the curvature sits",
        x=Axis(label="share of the trace"),
        y=Axis(label="layer", scale="category"),
        marks=(Mark(kind="bar", x=[0.11, 0.22, 0.19, 0.48], y=layers, error=[0.01, 0.02, 0.02, 0.03]),),
    )


def spectrum() -> Figure:
    values = np.array([22.4, 14.1, 9.3, 7.7, 5.2, 3.4, 2.9, 1.6, 0.9, 0.7])
    return Figure(
        name="hessian_spectrum",
        title="The largest eigenvalues",
        x=Axis(label="rank"),
        y=Axis(label="eigenvalue (nats/weight^2)", scale="log"),
        marks=(
            Mark(kind="scatter", x=np.arange(1, 11), y=values, error=values * 0.08, label="Hessian"),
            Mark(kind="scatter", x=np.arange(1, 11), y=values * 0.86, label="Gauss-Newton part"),
        ),
    )


def heatmap(scale: str = "linear") -> Figure:
    return Figure(
        name=f"loss_plane_{scale}",
        title="Loss over a plane through the solution",
        x=Axis(label="direction 1 (filter norms)"),
        y=Axis(label="direction 2 (filter norms)"),
        z=Axis(label="loss (nats)", scale=scale),  # type: ignore[arg-type]
        marks=(Mark(kind="heatmap", x=GRID, y=GRID, z=SURFACE),),
    )


def correlations() -> Figure:
    names = ["margin", "trace", "sharpness", "norm"]
    z = np.array([[1, -0.62, -0.5, 0.1], [-0.62, 1, 0.8, 0.2], [-0.5, 0.8, 1, np.nan], [0.1, 0.2, np.nan, 1]])
    return Figure(
        name="correlations",
        title="Rank correlation between measurements",
        x=Axis(label="", scale="category"),
        y=Axis(label="", scale="category"),
        z=Axis(label="Kendall's tau"),
        marks=(Mark(kind="heatmap", x=names, y=names, z=z),),
    )


def surface(scale: str = "linear") -> Figure:
    return Figure(
        name=f"loss_surface_{scale}",
        title="The same plane in relief",
        x=Axis(label="direction 1"),
        y=Axis(label="direction 2"),
        z=Axis(label="loss (nats)", scale=scale),  # type: ignore[arg-type]
        marks=(Mark(kind="surface", x=GRID, y=GRID, z=SURFACE),),
        caption="Drag to turn it.",
    )


def side_by_side(kind: str = "surface") -> Figure:
    """Two grids, each with a label and axes of its own; the second reaches ten times as high."""
    return Figure(
        name=f"{kind}s_beside",
        title="Two networks along the same directions",
        x=Axis(label="direction 1"),
        y=Axis(label="direction 2"),
        z=Axis(label="loss (nats)", scale="log"),
        marks=tuple(
            Mark(kind=kind, x=GRID, y=GRID, z=times * SURFACE, label=label)  # type: ignore[arg-type]
            for label, times in (("the good one", 1.0), ("the bad one", 10.0))
        ),
    )


def images() -> Figure:
    grid = np.linspace(-1, 1, 16)
    rings = [np.cos((3 + k) * np.hypot(grid[None] - 0.1 * k, grid[:, None])) for k in range(8)]
    return Figure(
        name="hardest",
        title="Examples nearest to the decision boundary",
        x=Axis(label=""),
        y=Axis(label=""),
        marks=(Mark(kind="images", z=np.array(rings), x=[f"{k} as {(k + 3) % 10}" for k in range(8)]),),
    )


def figures() -> list[Figure]:
    """One of every kind, and the awkward ones."""
    return [
        lines(),
        spectrum(),
        bars(),
        lying_bars(),
        heatmap(),
        heatmap("log"),
        correlations(),
        surface(),
        surface("log"),
        images(),
        side_by_side(),
        side_by_side("heatmap"),
    ]


def hostile_figure() -> Figure:
    """Text that would run in a page or break a label parser, wherever text enters a figure."""
    axis = Axis(label=HOSTILE, scale="category")
    return Figure(
        name=HOSTILE,
        title=HOSTILE,
        x=axis,
        y=Axis(label=HOSTILE),
        z=Axis(label=HOSTILE),
        caption=HOSTILE,
        marks=(
            Mark(kind="bar", x=[HOSTILE, "b"], y=[1.0, 2.0], error=[0.1, 0.1], label=HOSTILE),
            Mark(kind="line", x=[HOSTILE, "b"], y=[1.5, 2.5], label="_hidden"),
        ),
    )


LI = Source(
    title="Visualizing the Loss Landscape of Neural Nets",
    authors="H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein",
    year=2018,
    url="https://arxiv.org/abs/1712.09913",
)


@dataclass(frozen=True, kw_only=True)
class GeneralizationGap:
    """How much better the network does on what it has seen.

    Definition: mean test loss minus mean training loss, and the same for accuracy.
    Unit: nats (losses), probability (accuracies).
    Source: any textbook.
    Cost: one forward pass over both splits.
    Says little when: the test split is small, or is not drawn like the training split.
    """

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = ()

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return (lines(),)

    def reading(self, result: Result) -> str:
        return (
            "It generalises well: 97.2 ± 0.7 % of the test examples are classified rightly, 2.8 points fewer than of "
            "the training examples."
        )


@dataclass(frozen=True, kw_only=True)
class HessianSpectrum:
    """The steepest and the most downward-curved directions of the training loss.

    Definition: the largest and smallest eigenvalues of the Hessian `H` of the mean training loss over all trainable
        parameters, by Lanczos with full reorthogonalisation; each comes with its residual ``|H v - lambda v|``.
    Unit: nats/weight^2.
    Source: Lanczos (1950); Ghorbani et al. (2019), section 2.
    Cost: about 80 gradients.
    Says little when: the network is rescaled (sharpness can be made any number without changing the function).
    """

    k: int = 10
    tolerance: float = 1e-6
    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="An Investigation into Neural Net Optimization via Hessian Eigenvalue Density",
            authors="B. Ghorbani, S. Krishnan, Y. Xiao",
            year=2019,
            url="https://arxiv.org/abs/1901.10159",
        ),
    )

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return (spectrum(), lying_bars())

    def reading(self, result: Result) -> str:
        return (
            "The ground is moderately sharp: the steepest direction has curvature 22.4, ten times the tenth. One "
            "direction still goes down (-0.31), so this is not yet a minimum."
        )


@dataclass(frozen=True, kw_only=True)
class HessianTrace:
    """The total curvature of the training loss.

    Definition: the trace of the Hessian, by Hutch++ with Rademacher probes.
    Unit: nats/weight^2.
    Cost: two gradients a probe.
    Says little when: a few directions dominate; then the spectrum says more.
    """

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = ()

    def figures(self, result: Result) -> tuple[Figure, ...]:
        raise ZeroDivisionError("no probes <b>at all</b>")

    def reading(self, result: Result) -> str:
        return "The curvatures add up to 71.2 ± 1.4; the first ten eigenvalues hold 95 % of it."


@dataclass(frozen=True, kw_only=True)
class LossSlice:
    """The loss along random lines and planes through the solution.

    Definition: the mean training loss at ``w + a d1 + b d2``, with directions normalised filter by filter.
    Unit: nats.
    Cost: one forward pass a point.
    Says little when: the directions are random and the landscape is not: two of many thousand are seen.
    """

    points: int = 41
    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = (LI,)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return (heatmap(), surface())

    def reading(self, result: Result) -> str:
        return "Around the solution the loss is a smooth bowl, three times as steep one way as the other."


@dataclass(frozen=True, kw_only=True)
class Margins:
    """How far the training examples lie from being classified otherwise.

    Definition: the right logit minus the largest other one, for each example.
    Unit: logits.
    Cost: one forward pass.
    Says little when: the logits can be scaled at will.
    """

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = ()

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return (images(), bars("by_labels"))

    def reading(self, result: Result) -> str:
        return "Nearly every training example is safe: one in a hundred has a margin below 0.4."


@dataclass(frozen=True, kw_only=True)
class NtkAlignment:
    """How much the kernel has turned towards the labels."""

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = ()


def measured() -> list[tuple[Any, Outcome]]:
    """Five results, one question that makes no sense, one that failed."""
    gap = {
        "test_loss": Estimate(value=0.1642, stderr=0.0211, n=360, unit="nats", method="mean over examples"),
        "train_loss": Estimate(value=0.0217, stderr=0.0008, n=1437, unit="nats", method="mean over examples"),
        "test_accuracy": Estimate(value=0.9722, stderr=0.0087, n=360, method="fraction of examples"),
        "loss_gap": Estimate(value=0.1425, stderr=0.0211, n=1797, unit="nats", method="difference of means"),
    }
    eigenvalues = np.array([22.4, 14.1, 9.3, 7.7, 5.2, 3.4, 2.9, 1.6, 0.9, 0.7])
    spectrum_values = {
        "top_eigenvalue": Estimate(
            value=22.41387, stderr=3e-7, n=1437, unit="nats/weight^2", method="Lanczos, 62 steps"
        ),
        "bottom_eigenvalue": Estimate(value=-0.3127, stderr=0.0021, n=1437, unit="nats/weight^2", method="Lanczos"),
        "top_eigenvalues": Array(
            data=eigenvalues, dims=("rank",), unit="nats/weight^2", coords={"rank": np.arange(1.0, 11.0)}
        ),
    }
    trace = {
        "trace": Estimate(value=71.23, stderr=1.38, n=64, unit="nats/weight^2", method="Hutch++"),
        "mean_curvature": Estimate(value=1.4809e-5, stderr=2.9e-7, n=64, unit="nats/weight^2", method="trace / P"),
    }
    slices = {
        "loss": Array(data=SURFACE, dims=("beta", "alpha"), unit="nats", coords={"alpha": GRID, "beta": GRID}),
        "centre": Estimate(value=0.0217, stderr=0.0, n=1437, unit="nats", method="exact"),
    }
    margins = {"first_percentile": Estimate(value=0.41, stderr=None, n=1437, unit="logits", method="quantile")}
    slow = Note(code="not_converged", text="The smallest eigenvalue had not converged after 200 steps.")
    smooth = Note(code="needs_smooth", text="The network has no second derivative: it is made of binary weights.")
    return [
        (GeneralizationGap(), Result(values=gap)),
        (HessianSpectrum(), Result(values=spectrum_values, notes=(slow,))),
        (HessianTrace(), Result(values=trace)),
        (LossSlice(), Result(values=slices)),
        (Margins(), Result(values=margins)),
        (NtkAlignment(), NotApplicable(note=smooth)),
        (NtkAlignment(), Failed(error="OutOfMemoryError", message="The kernel of 1437 examples needs 16 GiB.")),
    ]


FACTS = {
    "problem": "digits",
    "model": "mlp",
    "parameters": 4810,
    "digest": "3f9a1c2b7d5e4f60a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718",
    "train_loss": 0.0217,
    "test_loss": 0.1642,
    "train_accuracy": 1.0,
    "test_accuracy": 0.9722,
    "num_train": 1437,
    "num_test": 360,
    "training": {"name": "gradient_descent", "settings": {"learning_rate": 0.1, "batch_size": 64, "steps": 1200}},
    "step": 1200,
    "dtype": "float32",
    "device": "cpu",
}


@dataclass(frozen=True, kw_only=True)
class ToyStudy:
    """Networks that fit random labels as easily as true ones."""

    version: ClassVar[int] = 1
    source: ClassVar[Source] = Source(
        title="Understanding deep learning requires rethinking generalization",
        authors="C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals",
        year=2017,
        url="https://arxiv.org/abs/1611.03530",
    )


def rows() -> list[Row]:
    """Three kinds of labels, three seeds, one of them failed."""
    found = []
    for labels, test in (("true", 0.97), ("shuffled pixels", 0.96), ("random", 0.10)):
        for seed in range(3):
            values = {
                "train_accuracy": Estimate(value=1.0, stderr=0.0, n=1437, method="fraction"),
                "test_accuracy": Estimate(value=test + 0.004 * seed, stderr=0.009, n=360, method="fraction"),
                "test_loss": Estimate(value=(1.2 - test) * 3 + 0.01 * seed, stderr=0.02, n=360, unit="nats"),
            }
            tags: dict[str, str | int | float | bool] = {"labels": labels, "width": 64}
            found.append(Row(tags=tags, seed=seed, measurement="generalization_gap", outcome=Result(values=values)))
            top = {"top_eigenvalue": Estimate(value=20.0 + seed - 30 * test, stderr=0.1, n=1437, unit="nats/weight^2")}
            outcome: Outcome = Result(values=top)
            if labels == "random" and seed == 2:
                outcome = Failed(error="RuntimeError", message="The loss is not finite.")
            found.append(Row(tags=tags, seed=seed, measurement="hessian_spectrum", outcome=outcome))
    return found


def claims() -> list[tuple[Claim, Verdict]]:
    """One of each verdict."""

    def never(table: Sequence[Row]) -> Verdict:
        raise AssertionError("the report must not run the test of a claim")

    return [
        (
            Claim(
                id="fits_random",
                says="Networks reach zero training error on random labels (training accuracy at least 0.99).",
                where="section 2.1, table 1",
                test=never,
            ),
            Verdict(verdict="holds", statistic=0.998, p=0.003, n=10),
        ),
        (
            Claim(
                id="chance",
                says="With random labels the test accuracy is that of chance.",
                where="section 2.1",
                test=never,
            ),
            Verdict(verdict="undecided", statistic=0.104, p=0.21, n=3),
        ),
        (
            Claim(
                id="slower",
                says="Random labels take at most a small constant factor longer to fit (at most 3.5 times).",
                where="figure 1a",
                test=never,
            ),
            Verdict(verdict="fails", statistic=4.9, p=1e-7, n=10),
        ),
        (
            Claim(id="decay", says="Weight decay does not stop the fit.", where="table 2", test=never),
            Verdict(verdict="not_run"),
        ),
    ]
