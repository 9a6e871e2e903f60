"""The figures of the circles of `huang2019_visualizations`: the fingers, and what changes as the gap shrinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Result, Row
from vallis.measurements.landscape.decision_boundary import gallery
from vallis.studies._circles_cells import GAPS, TITLE, tags
from vallis.studies._circles_rules import MARGINS, nearest
from vallis.studies._rows import results
from vallis.studies._visualizations_rules import GAP

# What is drawn against the gap: its measurement, how to read it, the title, the axis and its scale.
_CURVES: Mapping[str, tuple[str, Callable[[Result], float], str, str, Literal["linear", "log"]]] = {
    "accuracy": (GAP, lambda held: held.estimate("train_accuracy").value, "Training", "training accuracy", "linear"),
    "distance": (MARGINS, nearest, "The margin", "distance of the boundary to the nearest training point", "log"),
    "sharpness": (
        "sharpness",
        lambda held: held.estimate("top_eigenvalue").value,
        "Sharpness",
        "largest eigenvalue of the Hessian (nats/weight^2)",
        "log",
    ),
}


def circles_figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """The maps of the first seed, and each curve for which there are rows."""
    yield from _maps(rows)
    for name in _CURVES:
        figure = _curve(rows, name)
        if figure.marks:
            yield figure


def _maps(rows: Sequence[Row]) -> Iterator[Figure]:
    held = {gap: results(rows, "decision_boundary", tags(gap)) for gap in GAPS}
    maps = {f"gap {gap:g}": found[min(found)] for gap, found in held.items() if found}
    if maps:
        figure = gallery(maps, f"With less and less of a margin: {TITLE}")
        yield replace(figure, name="boundaries_circles")


def _curve(rows: Sequence[Row], name: str) -> Figure:
    measurement, read, title, label, scale = _CURVES[name]
    found = {gap: [read(held) for held in results(rows, measurement, tags(gap)).values()] for gap in GAPS}
    found = {gap: values for gap, values in found.items() if values}
    marks: tuple[Mark, ...] = ()
    if len(found) > 1:
        gaps = np.repeat(list(found), [len(values) for values in found.values()])
        least = min(map(len, found.values()))
        marks = (
            Mark(
                kind="line",
                x=np.array(list(found)),
                y=np.array([np.median(values) for values in found.values()]),
                label=f"median (n={least})",
            ),
            Mark(kind="scatter", x=gaps, y=np.concatenate(list(found.values())), label="networks"),
        )
    return Figure(
        name=f"{name}_by_gap",
        title=f"{title} as the gap shrinks: {TITLE}",
        x=Axis(label="gap between the circle and the close points of the other class", scale="log"),
        y=Axis(label=label, scale=scale),
        marks=marks,
    )
