"""The figures of `huang2019_visualizations`: good and bad minima beside each other, and what follows the volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Result, Row
from vallis.measurements.landscape.decision_boundary import gallery
from vallis.measurements.landscape.loss_slice import together
from vallis.measurements.landscape.minefield import Minefield
from vallis.studies._minefield_cells import TAGS, TITLE
from vallis.studies._rows import mean_and_error, results
from vallis.studies._visualizations_rules import (
    DATA_SETS,
    GAP,
    LINEAR,
    MINEFIELD,
    OPTIMIZERS,
    VOLUME,
    Floats,
    numbers,
    of_optimizers,
    swept,
)

_BINS = 40


def figures(rows: Sequence[Row], data: str) -> Iterator[Figure]:
    """All figures of a data set for which there are rows."""
    found = (
        *_boundaries(rows, data),
        *_slices(rows, data),
        _radii(rows, data),
        _gap_by_volume(rows, data),
        _by_factor(rows, data),
        _optimizers(rows, data),
    )
    return (figure for figure in found if figure.marks)


def minefields(rows: Sequence[Row]) -> Iterator[Figure]:
    """A path of training among the minima that poison leads to from its points, of the first seed."""
    held = results(rows, MINEFIELD, TAGS)
    if not held:
        return
    seed = min(held)
    for figure in Minefield().figures(held[seed]):
        caption = f"{figure.caption} Seed {seed}. The others started from points of the path, with poison.".lstrip()
        yield replace(figure, title=f"{figure.title}: {TITLE}", caption=caption)


def _results(rows: Sequence[Row], measurement: str, data: str, beta: float) -> dict[int, Result]:
    """What a measurement found at a poison factor, by seed."""
    tags = swept(data, beta)
    return {
        row.seed: row.outcome
        for row in rows
        if row.measurement == measurement
        and isinstance(row.outcome, Result)
        and all(row.tags.get(name) == tag for name, tag in tags.items())
    }


def _ends(rows: Sequence[Row], measurement: str, data: str) -> Mapping[str, dict[int, Result]]:
    """The good and the bad minimum."""
    return {
        "good minimum": _results(rows, measurement, data, 0.0),
        "bad minimum": _results(rows, measurement, data, DATA_SETS[data].worst),
    }


def _boundaries(rows: Sequence[Row], data: str) -> Iterator[Figure]:
    maps = {}
    for beta in DATA_SETS[data].betas:
        held = _results(rows, "decision_boundary", data, beta)
        test = numbers(rows, GAP, "test_accuracy", data, [beta])
        if held and len(test):
            seed = min(held)
            right = float(test[0, 0])
            maps[f"poison factor {beta:g} (test accuracy {right:.2f})"] = held[seed]
    if len(maps) > 1:
        ends = {name: maps[name] for name in (next(iter(maps)), list(maps)[-1])}
        title = f"A good and a bad minimum of one network: {DATA_SETS[data].title}"
        figure = gallery(ends, title)
        yield replace(
            figure, name=f"good_and_bad_{data}", caption=f"{figure.caption} Both are right on every training point."
        )
        every = gallery(maps, f"With more and more poison: {DATA_SETS[data].title}")
        yield replace(every, name=f"boundaries_{data}")


def _slices(rows: Sequence[Row], data: str) -> Iterator[Figure]:
    held = {name: found[min(found)] for name, found in _ends(rows, "loss_slice", data).items() if found}
    if len(held) < 2:
        return
    title = f"The loss around both minima, along the same directions: {DATA_SETS[data].title}"
    for figure in together(held, title):
        yield replace(figure, name=f"{figure.name.removesuffix('_together')}_{data}")


def _radii(rows: Sequence[Row], data: str) -> Figure:
    ends = {
        name: [result.array("radii").data for result in held.values() if "radii" in result.values]
        for name, held in _ends(rows, VOLUME, data).items()
    }
    pooled = {f"{name} ({len(held)} networks)": np.concatenate(held) for name, held in ends.items() if held}
    pooled = {name: radii[radii > 0] for name, radii in pooled.items()}
    together = np.concatenate(list(pooled.values())) if pooled else np.array([])
    marks = []
    if together.size and together.min() < together.max():
        edges = np.geomspace(together.min() * 0.999, together.max() * 1.001, _BINS + 1)
        for name, radii in pooled.items():
            shares = np.histogram(radii, edges)[0] / len(radii)
            high = np.repeat(shares, 2)
            x = np.repeat(edges, 2)[1:-1]
            marks.append(Mark(kind="band", x=x, low=np.zeros_like(high), high=high, label=name))
    return Figure(
        name=f"radii_{data}",
        title=f"How far the weights can move until the loss has risen by 0.1: {DATA_SETS[data].title}",
        x=Axis(label="radius along a random ray (norms of the filters)", scale="log"),
        y=Axis(label="share of the rays"),
        marks=tuple(marks),
        caption="All seeds together.",
    )


def _gap_by_volume(rows: Sequence[Row], data: str) -> Figure:
    marks = []
    for beta in DATA_SETS[data].betas:
        gaps = numbers(rows, GAP, "accuracy_gap", data, [beta])[:, 0]
        sizes = numbers(rows, VOLUME, "log10_ball_share", data, [beta])[:, 0]
        if len(gaps) and len(gaps) == len(sizes):
            marks.append(Mark(kind="scatter", x=sizes, y=gaps, label=f"poison factor {beta:g}"))
    return Figure(
        name=f"gap_by_volume_{data}",
        title=f"The gap against the volume of the basin: {DATA_SETS[data].title}",
        x=Axis(label="log10 of the basin's share of the unit ball"),
        y=Axis(label="gap: training less test accuracy"),
        marks=tuple(marks),
        caption="A point is a network. The volume is that which the longest of the rays show.",
    )


def _by_factor(rows: Sequence[Row], data: str) -> Figure:
    betas, marks = DATA_SETS[data].betas, []
    for split in ("train", "test"):
        found = numbers(rows, GAP, f"{split}_accuracy", data, betas)
        if len(found):
            mean, error = mean_and_error(found)
            words = [f"{beta:g}" for beta in betas]
            marks.append(Mark(kind="line", x=words, y=mean, error=error, label=f"{split} (n={len(found)})"))
    if marks:
        chance = np.full(len(betas), DATA_SETS[data].chance)
        marks.append(Mark(kind="line", x=[f"{beta:g}" for beta in betas], y=chance, label="guessing"))
    return Figure(
        name=f"accuracy_by_poison_{data}",
        title=f"Accuracy with more and more poison: {DATA_SETS[data].title}",
        x=Axis(label="poison factor", scale="category"),
        y=Axis(label="accuracy"),
        marks=tuple(marks),
        caption="Error bars: one standard error over the seeds.",
    )


def _optimizers(rows: Sequence[Row], data: str) -> Figure:
    names, heights, errors, least = [], [], [], []
    for name in (*OPTIMIZERS, LINEAR):
        found = of_optimizers(rows, "test_accuracy", data, [name])
        if len(found):
            mean, error = mean_and_error(found)
            names.append(name)
            heights.append(float(mean[0]))
            errors.append(float(error[0]))
            least.append(len(found))
    bad: Floats = numbers(rows, GAP, "test_accuracy", data, [DATA_SETS[data].worst])
    if names and len(bad):
        mean, error = mean_and_error(bad)
        names.append("bad minimum")
        heights.append(float(mean[0]))
        errors.append(float(error[0]))
    marks = (Mark(kind="bar", x=names, y=np.array(heights), error=np.array(errors)),) if len(names) > 1 else ()
    seeds = f" (n={min(least)})" if least else ""
    return Figure(
        name=f"optimizers_{data}",
        title=f"Where optimizers land: {DATA_SETS[data].title}",
        x=Axis(label="optimizer", scale="category"),
        y=Axis(label=f"test accuracy{seeds}"),
        marks=marks,
        caption=f"Error bars: one standard error over the seeds. {LINEAR}: on second-order features.",
    )
