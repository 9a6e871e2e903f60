"""What both backends must agree on beyond colours: how images tile, how bars sit, which range colours span."""

from __future__ import annotations

import math

import numpy as np

from vallis.core.figures import Figure, Mark
from vallis.report import style
from vallis.report.clean import GRIDS, Floats


def legend_marks(marks: tuple[Mark, ...]) -> set[int]:
    """Which marks stand for their label in the legend: the first that has it and is no band, else the first band."""
    chosen: dict[str, int] = {}
    for number, mark in sorted(enumerate(marks), key=lambda pair: pair[1].kind == "band"):
        if mark.label and mark.kind not in (*GRIDS, "images"):
            chosen.setdefault(mark.label, number)
    return set(chosen.values())


def mosaic(mark: Mark) -> tuple[Floats, list[tuple[float, float, str]]]:
    """All images of a mark on one sheet, a gap between them, and a word with its place under each that has one."""
    count, height, width = mark.z.shape
    columns = math.ceil(math.sqrt(2 * count * height / max(width, 1))) if count else 1
    gap = max(1, round(0.08 * max(height, width)))
    below = gap + (max(2, round(0.22 * height)) if mark.x is not None else 0)
    rows = math.ceil(count / columns)
    sheet = np.full((max(1, rows * (height + below) - gap), max(1, columns * (width + gap) - gap)), np.nan)
    captions = []
    for number, image in enumerate(mark.z):
        top, left = (number // columns) * (height + below), (number % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
        if mark.x is not None:
            captions.append((left + (width - 1) / 2, top + height - 0.5, mark.x[number]))
    return sheet, captions


def colour_range(values: Floats, logarithmic: bool = False) -> tuple[float, float, tuple[str, ...]]:
    """The range of colours and their scale: around zero when numbers of both signs are of similar size.

    Of numbers on a logarithmic scale it takes the exponents, whose signs say nothing.
    """
    known = values[np.isfinite(values)]
    lowest, highest = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if not logarithmic and lowest < 0 < highest and min(-lowest, highest) > 0.1 * max(-lowest, highest):
        size = max(-lowest, highest)
        return -size, size, style.DIVERGING
    return lowest, highest, style.SEQUENTIAL


def panels(figure: Figure) -> tuple[Mark, ...]:
    """The grids that stand side by side, where a figure consists of several; none in other figures."""
    kinds = {mark.kind for mark in figure.marks}
    return figure.marks if len(figure.marks) > 1 and kinds in ({"heatmap"}, {"surface"}) else ()


def heights_together(figure: Figure) -> Floats:
    """``(n,)`` the finite heights of all grids, which share one scale; their exponents where that is logarithmic."""
    held = np.concatenate([mark.z.ravel() for mark in figure.marks if mark.kind in GRIDS])
    known = held[np.isfinite(held)]
    return np.asarray(np.log10(known) if figure.z is not None and figure.z.scale == "log" else known)


def categories(figure: Figure, mark: Mark) -> list[float]:
    """The values of a heatmap each of which has a colour of its own; none where they are numbers, or too many."""
    if mark.kind != "heatmap" or figure.z is None or figure.z.scale != "category":
        return []
    grids = [other.z[np.isfinite(other.z)] for other in figure.marks if other.kind == "heatmap"]
    found = [float(value) for value in np.unique(np.concatenate(grids))]
    return found if len(found) <= len(style.LIGHT.series) else []


def places_of(values: Floats, known: list[float]) -> Floats:
    """The place of each value among those that are known; gaps stay gaps."""
    return np.where(np.isfinite(values), np.searchsorted(known, np.nan_to_num(values, nan=known[0])), np.nan)


def bar_gap(figure: Figure) -> float:
    """The share of each step between bars that stays empty: few bars are kept from becoming walls."""
    sizes = [len(mark.x) for mark in figure.marks if mark.kind == "bar"]
    return max(0.25, round(0.8 - 0.1 * sum(sizes), 2))


def decades(figure: Figure, letter: str) -> float:
    """Over how many powers of ten the positive numbers along an axis reach."""
    names = ("y", "low", "high") if letter == "y" else (letter,)
    held = [getattr(mark, name) for mark in figure.marks for name in names]
    known = [array[array > 0] for array in held if isinstance(array, np.ndarray)]
    ends = [float(end) for array in known if array.size for end in (array.min(), array.max())]
    return math.log10(max(ends) / min(ends)) if ends else 1.0


def largest(figure: Figure, letter: str) -> float:
    """The largest magnitude along an axis; 0 where there are no numbers."""
    names = ("y", "low", "high") if letter == "y" else (letter,)
    held = [getattr(mark, name) for mark in figure.marks for name in names]
    known = [np.abs(array[np.isfinite(array)]) for array in held if isinstance(array, np.ndarray)]
    return max((float(array.max()) for array in known if array.size), default=0.0)


def proportion(figure: Figure) -> float:
    """How far the marks reach along y, as a multiple of how far they do along x."""
    held = (np.concatenate([getattr(mark, letter) for mark in figure.marks]) for letter in "yx")
    across, along = (float(np.ptp(values[np.isfinite(values)])) for values in held)
    return across / along if across > 0 and along > 0 else 1.0


def words_along(figure: Figure, letter: str) -> list[str]:
    """All words along an axis, in the order in which the marks bring them."""
    held = (getattr(mark, letter) for mark in figure.marks)
    return list(dict.fromkeys(word for words in held if isinstance(words, list) for word in words))
