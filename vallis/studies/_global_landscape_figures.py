"""The figures of `sun2020_global_landscape`: barriers, exits, constructions, growth and tickets, over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Result, Row
from vallis.studies._global_landscape_cells import (
    DATA_SETS,
    STARTS,
    construction,
    exit_of,
    lottery,
    modes,
    separable,
)
from vallis.studies._rows import mean_and_error, results

_ROUTES = {"straight": "straight line", "aligned": "units matched", "curve": "trained curve", "band": "elastic band"}
_WORDS = {"rewind": "ticket", "reinitialise": "other values", "random_mask": "other places"}


def figures(rows: Sequence[Row]) -> list[Figure]:
    """All that there are results for."""
    made = [*_barriers(rows), *_between(rows), *_constructions(rows), *_exits(rows), *_growth(rows), *_tickets(rows)]
    return [figure for figure in made if figure is not None]


def _barriers(rows: Sequence[Row]) -> list[Figure | None]:
    marks = []
    for data, title in DATA_SETS.items():
        found = list(results(rows, "mode_connectivity", modes(data)).values())
        routes = [route for route in _ROUTES if all(f"{route}_barrier" in each.values for each in found)]
        if found and routes:
            lines = np.array([[each.estimate(f"{route}_barrier").value for route in routes] for each in found])
            mean, error = mean_and_error(lines)
            words = [_ROUTES[route] for route in routes]
            marks.append(Mark(kind="bar", x=words, y=mean, error=error, label=title))
    way, height = Axis(label="way", scale="category"), Axis(label="barrier (nats), mean over pairs")
    return [_figure("barriers", "How high the barriers between two networks are", way, height, marks)]


def _between(rows: Sequence[Row]) -> list[Figure | None]:
    made: list[Figure | None] = []
    for data, title in DATA_SETS.items():
        found = results(rows, "mode_connectivity", modes(data))
        if not found:
            continue
        first = found[min(found)]
        marks = [
            Mark(kind="line", x=held.coords["moment"], y=held.data, label=word)
            for route, word in _ROUTES.items()
            if f"{route}_losses" in first.values
            for held in (first.array(f"{route}_losses"),)
        ]
        way, loss = Axis(label="t: from the first network to the second"), Axis(label="training loss (nats)")
        made.append(_figure(f"ways_{data}", f"Ways between two networks on {title}", way, loss, marks))
    return made


def _constructions(rows: Sequence[Row]) -> list[Figure | None]:
    widths = sorted({int(row.tags["width"]) for row in rows if row.tags.get("check") == "construction"})
    keys = {"plateau_loss": "no unit fires", "minimum_loss": "affine minimum", "descent_end": "descent beside it",
            "better_loss": "another network"}  # fmt: skip
    lines: dict[str, list[float]] = {key: [] for key in keys}
    for width in widths:
        found = list(results(rows, "constructed_minimum", construction(width)).values())
        for key, held in lines.items():
            numbers = [max(each.estimate(key).value, 1e-16) for each in found]
            held.append(float(np.exp(np.mean(np.log(numbers)))) if numbers else np.nan)
    marks = [Mark(kind="line", x=widths, y=held, label=keys[key]) for key, held in lines.items()] if widths else []
    marks += [Mark(kind="scatter", x=widths, y=held, label=keys[key]) for key, held in lines.items()] if widths else []
    units, loss = Axis(label="hidden units", scale="log"), Axis(label="mean squared error", scale="log")
    return [_figure("constructions", "Bad points that exist at any width", units, loss, marks)]


def _exits(rows: Sequence[Row]) -> list[Figure | None]:
    found = list(results(rows, "basin_exit", exit_of("wide")).values())
    marks = []
    if found:
        shakes = found[0].array("barriers").coords["shake"]
        for place, each in enumerate(found):
            heights = np.maximum(each.array("barriers").data, 1e-16)
            marks.append(Mark(kind="line", x=shakes, y=heights, label=f"network {place + 1}"))
    shake = Axis(label="shake of the hidden weights (share of their norm)", scale="log")
    title = "The way out of a basin rises less, the smaller the shake"
    return [_figure("exits", title, shake, Axis(label="barrier (nats)", scale="log"), marks)]


def _growth(rows: Sequence[Row]) -> list[Figure | None]:
    marks: list[Mark] = []
    for decay in ("without", "with"):
        found: Mapping[int, Result] = results(rows, "path_to_infinity", separable(decay))
        for each in found.values():
            norms = each.array("norms")
            known = norms.coords["step"] > 0
            label = f"{decay} weight decay"
            marks.append(Mark(kind="line", x=norms.coords["step"][known], y=norms.data[known], label=label))
    step, norm = Axis(label="step", scale="log"), Axis(label="norm of the weights", scale="log")
    return [_figure("growth", "Weights that grow for ever", step, norm, marks)]


def _tickets(rows: Sequence[Row]) -> list[Figure | None]:
    cells = {start: results(rows, "generalization_gap", lottery(start)) for start in STARTS}
    seeds = sorted(set.intersection(*(set(found) for found in cells.values())))
    marks = []
    if seeds:
        held = [[found[seed].estimate("test_accuracy").value for found in cells.values()] for seed in seeds]
        mean, error = mean_and_error(np.array(held))
        words = [_WORDS[start] for start in STARTS]
        marks.append(Mark(kind="scatter", x=words, y=mean, error=error))
    start, accuracy = Axis(label="last round", scale="category"), Axis(label="test accuracy, mean over seeds")
    return [_figure("tickets", "Pruned networks, by what they start from", start, accuracy, marks)]


def _figure(name: str, title: str, x: Axis, y: Axis, marks: list[Mark]) -> Figure | None:
    return Figure(name=name, title=title, x=x, y=y, marks=tuple(marks)) if marks else None
