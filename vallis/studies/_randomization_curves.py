"""Curves of `zhang2017_randomization` along training: means over seeds, with intervals as bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Array, Row
from vallis.studies._randomization_rules import DATA_SETS, Variant, cell
from vallis.studies._regularization_rules import POTENTIAL, REGULARIZED
from vallis.studies._rows import arrays_by_seed, mean_and_interval

_POINTS = 120  # along each curve


def of_losses(rows: Sequence[Row], data: str, network: str, kinds: Mapping[str, Variant]) -> Figure:
    """The training loss by step for each kind of noise."""
    marks: list[Mark] = []
    for words, variant in kinds.items():
        curves = arrays_by_seed(rows, "learning_curve", "training_loss", cell(data, network, variant))
        marks += _band(list(curves.values()), words)
    return Figure(
        name=f"learning_curves_{data}_{network}",
        title=f"The training loss while each kind of noise is fitted: {DATA_SETS[data].title}, {network}",
        x=Axis(label="steps"),
        y=Axis(label="training loss (nats)"),
        marks=tuple(marks),
        caption="Compare figure 1a of the paper. Lines: means over the seeds; bands: Student's 95 % intervals. A "
        "network that has fitted everything stops and keeps its last loss; a line ends with the slowest of its seeds.",
    )


def of_accuracies(rows: Sequence[Row], data: str) -> Figure:
    """The test accuracy, and the best so far, while true labels are learned."""
    held = REGULARIZED[data]
    marks: list[Mark] = []
    for network in dict.fromkeys((*held.networks, held.plain, held.normalized)):
        for key, words in (("test_accuracy", "now"), ("running_best", "best so far")):
            curves = arrays_by_seed(rows, POTENTIAL, key, cell(data, network, {}))
            drawn = _band(list(curves.values()), f"{network.replace('_', ' ')}, {words}")
            marks += drawn if key == "test_accuracy" else drawn[-1:]  # two bands on top of each other show neither
    return Figure(
        name=f"accuracy_on_the_way_{data}",
        title=f"The test accuracy while true labels are learned: {held.title}",
        x=Axis(label="steps", scale="log"),
        y=Axis(label="test accuracy"),
        marks=tuple(marks),
        caption="Compare figure 2 of the paper: what stopping in time could gain is the distance of the two lines, and "
        "what batch normalisation does is that of the networks. Bands: Student's 95 % intervals over the seeds. A "
        "network that has fitted everything keeps its last accuracy.",
    )


def _band(curves: Sequence[Array], label: str) -> list[Mark]:
    """The mean of curves with steps of their own, each of which stays at its last value, and the interval around it."""
    if not curves:
        return []
    steps = _steps(curves)
    lines = np.stack([np.interp(steps, curve.coords["step"], curve.data) for curve in curves])
    mean, half = mean_and_interval(lines)
    band = Mark(kind="band", x=steps, low=mean - half, high=mean + half)
    line = Mark(kind="line", x=steps, y=mean, label=f"{label} (n={len(curves)})")
    return [line] if len(curves) == 1 else [band, line]


def _steps(curves: Sequence[Array]) -> NDArray[np.float64]:
    """Some of the steps at which some curve has a point."""
    known: NDArray[np.float64] = np.unique(np.concatenate([curve.coords["step"] for curve in curves]))
    chosen = np.unique(np.linspace(0, len(known) - 1, _POINTS).round().astype(int))
    return np.asarray(known[chosen])
