"""The pictures and the words of `decision_boundary`, and several maps side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vallis.core.errors import UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import count, quantity
from vallis.core.types import Result
from vallis.numerics.planes import Floats

# The axes of the map, rows first: of two inputs, or of a plane through three.
INPUTS = ("second_input", "first_input")
PLANE = ("across", "along")
_LABELS = {
    "first_input": "first input",
    "second_input": "second input",
    "along": "from the first example to the second (input)",
    "across": "across, to the third (input)",
}
_MOST_IN_A_ROW = 3  # maps, before there are several rows of them
_MOST_CLASSES = 6  # whose examples get a mark each; more cannot be told apart


def figures(result: Result) -> tuple[Figure, ...]:
    """The map, with the examples on it; with more than two classes also how sure the answers are."""
    y, x = _coords(result)
    across, along = (Axis(label=_LABELS[dim]) for dim in result.array("classes").dims)
    two = _two(result)
    height, data = _heights(result, two)
    # The ground comes last, so that the classes have the first colours, which are those of its ends.
    marks = (*_examples(result.array("examples").data, _classes([result])), Mark(kind="heatmap", x=x, y=y, z=data))
    title = "What is answered where"
    found = [Figure(name="decision_boundary", title=title, x=along, y=across, z=height, marks=marks, same_scale=True)]
    if not two:
        sure = Mark(kind="heatmap", x=x, y=y, z=result.array("probability_margins").data)
        height = Axis(label="probability of the answer less that of the next")
        other = replace(found[0], name="answer_margins", title="How sure the answers are", z=height, marks=(sure,))
        found.append(other)
    return tuple(found)


def reading(result: Result) -> str:
    """How long the boundary is, into how many regions it cuts the map, how many examples are on the wrong side."""
    length, regions = result.estimate("boundary_length"), int(result.estimate("num_regions").value)
    points = result.array("examples").data
    side = float(np.ptp(_coords(result)[1]))
    wrong = int((points[:, 3] == 0).sum())
    cut = "all of the map is answered alike" if regions == 1 else f"the map falls into {count(regions)} regions"
    said = f"On a map of {side:.3g} by {side:.3g}, {cut}"
    if regions > 1:
        said += (
            f" with a boundary of {quantity(length).removesuffix(' input')} ({length.value / side:.2g} times its side)"
        )
    return f"{said}; {count(wrong)} of the {count(len(points))} examples drawn are answered wrongly."


def gallery(named: Mapping[str, Result], title: str = "What each network answers") -> Figure:
    """The maps of several results of `decision_boundary` on one sheet, row by row, with their examples.

    Up to three stand side by side, more in rows. Each is drawn as large as the first. On the axes are the coordinates
    of the lowest map of each column, and of the first of each row.

    Args:
        named: the results by what to call them.
        title: of the figure.

    Raises:
        UsageError: there is none, or their maps are of different sizes.
    """
    shapes = {result.array("classes").data.shape for result in named.values()}
    if len(shapes) != 1:
        raise UsageError(f"maps of one size were required, {sorted(shapes)} came: measure them with equal num_points")
    shape, number = shapes.pop(), len(named)
    a_row = number if number <= _MOST_IN_A_ROW else math.ceil(math.sqrt(number))
    num_rows = -(-number // a_row)
    gap = max(1, shape[1] // 20)
    own = _coords(next(iter(named.values())))
    steps = [float(np.ptp(side)) / max(len(side) - 1, 1) for side in own]
    sheet = np.full([many * (size + gap) - gap for many, size in zip((num_rows, a_row), shape, strict=True)], np.nan)
    two, classes = all(map(_two, named.values())), _classes(list(named.values()))
    marks: list[Mark] = []
    ticks: list[dict[int, tuple[tuple[float, str], ...]]] = [{}, {}]
    for place, result in enumerate(named.values()):
        # The first row is the uppermost.
        starts = [(num_rows - 1 - place // a_row) * (shape[0] + gap), place % a_row * (shape[1] + gap)]
        sheet[starts[0] : starts[0] + shape[0], starts[1] : starts[1] + shape[1]] = _heights(result, two)[1]
        points = result.array("examples").data.copy()
        for axis, (side, first) in enumerate(zip(_coords(result), own, strict=True)):
            begin, scale = first[0] + starts[axis] * steps[axis], np.ptp(first) / np.ptp(side)
            points[:, 1 - axis] = begin + (points[:, 1 - axis] - side[0]) * scale
            held = tuple((float(begin + (value - side[0]) * scale), word) for value, word in _round_numbers(side))
            # Of a column the lowest map, which comes last; of a row the first.
            ticks[axis] |= {starts[axis]: held if axis or starts[0] not in ticks[0] else ticks[0][starts[0]]}
        marks += _examples(points, classes)
    up, right = (first[0] + step * np.arange(size) for first, step, size in zip(own, steps, sheet.shape, strict=True))
    names = f"From left to right{', row by row' if num_rows > 1 else ''}: {', '.join(named)}."
    return Figure(
        name="boundary_gallery",
        title=title,
        x=Axis(label="first coordinate, networks side by side", ticks=sum(ticks[1].values(), ())),
        y=Axis(label="second coordinate", ticks=sum(ticks[0].values(), ())),
        z=_heights(next(iter(named.values())), two)[0],
        marks=(*marks, Mark(kind="heatmap", x=right, y=up, z=sheet)),
        caption=names,
        same_scale=True,
    )


def _round_numbers(side: Floats) -> list[tuple[float, str]]:
    """Two to five round numbers within the coordinates of a side, and how they are written."""
    low, high = float(side.min()), float(side.max())
    power = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(size * power for size in (5, 2, 1) if (high - low) / (size * power) >= 2)
    found = step * np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(float(value), f"{value:.6g}".replace("-", "\N{MINUS SIGN}")) for value in found]


def _two(result: Result) -> bool:
    classes, points = result.array("classes").data, result.array("examples").data
    return max(float(classes.max()), float(points[:, 2].max())) <= 1


def _heights(result: Result, two: bool) -> tuple[Axis, Floats]:
    """What the colours say: of two classes which one and how surely, of more which one."""
    classes = result.array("classes").data
    if two:
        signed = (2 * classes - 1) * result.array("probability_margins").data
        return Axis(label="probability of class 1 less that of class 0"), signed
    return Axis(label="class", scale="category"), classes


def _classes(results: Sequence[Result]) -> Floats:
    """All classes that are answered or drawn, rising: the order of the colours, on the ground and of the examples."""
    found = [held for each in results for held in (each.array("classes").data, each.array("examples").data[:, 2])]
    known = np.unique(np.concatenate([held.ravel() for held in found]))
    if len(known) > _MOST_CLASSES:  # too many for a colour each: those of the examples alone
        known = np.unique(np.concatenate(found[1::2]))
    return np.array([0.0, 1.0]) if known.max() <= 1 else known


def _coords(result: Result) -> tuple[Floats, Floats]:
    """The coordinates of the rows and of the columns."""
    classes = result.array("classes")
    return classes.coords[classes.dims[0]], classes.coords[classes.dims[1]]


def _examples(points: Floats, classes: Floats) -> list[Mark]:
    """The examples, a mark for each class, also one without examples, and those that are answered wrongly."""
    groups = {f"class {int(held)}": points[(points[:, 2] == held) & (points[:, 3] == 1)] for held in classes}
    if len(classes) > _MOST_CLASSES:
        groups = {"answered rightly": points[points[:, 3] == 1]}
    wrong = points[points[:, 3] == 0]
    groups |= {"answered wrongly": wrong} if len(wrong) else {}
    return [Mark(kind="scatter", x=held[:, 0], y=held[:, 1], label=label) for label, held in groups.items()]
