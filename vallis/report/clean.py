"""Makes a figure drawable: any array becomes float64, what cannot be drawn becomes a gap, and the caption says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vallis.core.figures import Axis, Figure, Mark

Floats = NDArray[np.float64]
GRIDS = ("heatmap", "surface")


def clean(figure: Figure) -> Figure:
    """The same figure with arrays of float64 (or lists of words) in every mark, and honest about what it leaves out.

    NaN and infinities become NaN, which both backends draw as gaps; so does what is not positive on a logarithmic
    axis. The lower edge of a band that crosses zero there is drawn at the lowest positive number of the figure.

    Raises:
        ValueError: a mark's arrays do not fit together.
    """
    marks = list(coerced(figure).marks)
    lost = sum(_num_not_finite(mark) for mark in marks)
    marks = [_finite(mark) for mark in marks]
    marks, dropped, cut = _positive(figure, marks)
    remarks = [*_remarks(lost, dropped, cut), *([] if _anything(marks) else ["There is nothing finite to draw."])]
    caption = " ".join([figure.caption.strip(), *remarks]).strip()
    return replace(figure, marks=tuple(marks), caption=caption)


def coerced(figure: Figure) -> Figure:
    """The same figure, its values untouched but held as float64 arrays or lists of words, shapes checked.

    Raises:
        ValueError: a mark's arrays do not fit together.
    """
    return replace(figure, marks=tuple(_arrays(mark, figure) for mark in figure.marks))


def colour_places(figure: Figure) -> list[int]:
    """For every mark the place of its colour: equal labels share one, and a band without a label joins its line."""
    places: list[int] = []
    by_label: dict[str, int] = {}
    for number, mark in enumerate(figure.marks):
        new = max(places, default=-1) + 1
        if mark.label:
            places.append(by_label.setdefault(mark.label, new))
        elif mark.kind == "band":
            line = next((m for m in figure.marks[number + 1 :] if m.kind != "band"), None)
            shared = by_label.get(line.label, new) if line is not None else places[-1] if places else new
            if line is not None and line.label:
                by_label.setdefault(line.label, shared)
            places.append(shared)
        elif number and figure.marks[number - 1].kind == "band" and not figure.marks[number - 1].label:
            places.append(places[-1])
        else:
            places.append(new)
    return places


def is_numeric(axis: Axis) -> bool:
    """Whether the axis has numbers along it, not words."""
    return axis.scale != "category"


def floats(values: Any) -> Floats:
    """Anything that holds numbers (arrays, tensors of any precision and device, lists with None) as float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    return np.array(values, dtype=np.float64)


def _arrays(mark: Mark, figure: Figure) -> Mark:
    if mark.kind == "images":
        return _images(mark)
    if mark.kind in GRIDS:
        return _grid(mark, figure)
    main = {"high": mark.high, "low": mark.low} if mark.kind == "band" else {"y": mark.y}
    if mark.kind == "bar" and not is_numeric(figure.y):
        main = {"x": mark.x}  # bars that lie: the words are along y
    arrays = {name: _given(value, name, mark) for name, value in main.items()}
    shapes = {array.shape for array in arrays.values()}
    size = shapes.pop()
    if shapes or len(size) != 1:
        raise _misfit(mark, "one dimension and one length", {name: a.shape for name, a in arrays.items()})
    along = "y" if "x" in arrays else "x"
    axis = figure.y if along == "y" else figure.x
    place = _along(getattr(mark, along), axis, *size, mark)
    error = None if mark.error is None else np.broadcast_to(floats(mark.error), size).copy()
    tint = None if mark.z is None or mark.kind != "scatter" else floats(mark.z)
    if tint is not None and tint.shape != size:
        raise _misfit(mark, f"{size[0]} numbers for its colours", {"z": tint.shape})
    return replace(mark, **{**arrays, along: place, "error": error, "z": tint})


def _grid(mark: Mark, figure: Figure) -> Mark:
    z = _given(mark.z, "z", mark)
    if z.ndim != 2:
        raise _misfit(mark, "z of two dimensions", {"z": z.shape})
    x, y = _along(mark.x, figure.x, z.shape[1], mark), _along(mark.y, figure.y, z.shape[0], mark)
    return replace(mark, x=x, y=y, z=z)


def _images(mark: Mark) -> Mark:
    z = _given(mark.z, "z", mark)
    z = z[None] if z.ndim == 2 else z
    if z.ndim != 3:
        raise _misfit(mark, "z of shape (K, height, width)", {"z": z.shape})
    words = None if mark.x is None else [str(word) for word in _listed(mark.x)]
    if words is not None and len(words) != len(z):
        raise _misfit(mark, "a word in x for each image", {"x": (len(words),), "z": z.shape})
    return replace(mark, x=words, y=None, z=z)


def _given(values: Any, name: str, mark: Mark) -> Floats:
    if values is None:
        raise ValueError(f"a {mark.kind} requires {name}, none came: give it numbers")
    return np.atleast_1d(floats(values))


def _along(values: Any, axis: Axis, size: int, mark: Mark) -> Any:
    """Coordinates along an axis: words on one of words, else numbers, 0, 1, 2 ... where none are given."""
    if not is_numeric(axis):
        words = [str(place) for place in range(size)] if values is None else [str(v) for v in _listed(values)]
        if len(words) != size:
            raise _misfit(mark, f"{size} words", {axis.label or "axis": (len(words),)})
        return words
    places = np.arange(size, dtype=np.float64) if values is None else np.atleast_1d(floats(values))
    if places.shape != (size,):
        raise _misfit(mark, f"{size} coordinates", {axis.label or "axis": places.shape})
    return places


def _listed(values: Any) -> list[Any]:
    return list(values.tolist()) if hasattr(values, "tolist") else list(values)


def _misfit(mark: Mark, wanted: str, came: dict[str, tuple[int, ...]]) -> ValueError:
    shapes = ", ".join(f"{name} of shape {shape}" for name, shape in came.items())
    return ValueError(f"a {mark.kind} requires {wanted}, {shapes} came: give arrays that fit together")


def _held(mark: Mark) -> Iterator[tuple[str, Floats]]:
    for name in ("x", "y", "z", "low", "high", "error"):
        value = getattr(mark, name)
        if isinstance(value, np.ndarray):
            yield name, value


def _num_not_finite(mark: Mark) -> int:
    lost = {name: ~np.isfinite(array) for name, array in _held(mark) if name != "error"}
    if mark.kind in GRIDS and "z" in lost and not lost["z"].all():
        lost["z"] &= _in_maps(lost["z"])
    return sum(int(np.count_nonzero(marks)) for marks in lost.values())


def _in_maps(lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which places of a grid are within a map: rows and columns of nothing stand between maps on one sheet.

    Where one of these is empty, as behind the last map of the last row, there is no map.
    """
    rows, columns = (np.asarray(lost.all(axis=axis)) for axis in (1, 0))
    within = ~(rows[:, None] | columns)
    number = np.cumsum(rows)[:, None] * (len(columns) + 1) + np.cumsum(columns)
    there: NDArray[np.bool_] = np.isin(number, np.unique(number[within & ~lost]))
    return within & there


def _finite(mark: Mark) -> Mark:
    gaps: dict[str, Any] = {name: np.where(np.isfinite(array), array, np.nan) for name, array in _held(mark)}
    if mark.kind == "scatter" and "z" in gaps:  # a point without a number for its colour is a gap
        gaps["y"] = np.where(np.isnan(gaps["z"]), np.nan, gaps["y"])
    return replace(mark, **gaps)


def _anything(marks: list[Mark]) -> bool:
    drawn = ("z", "y", "x", "high")
    arrays = [next((getattr(m, n) for n in drawn if isinstance(getattr(m, n), np.ndarray)), None) for m in marks]
    return any(array is not None and bool(np.isfinite(array).any()) for array in arrays)


def _positive(figure: Figure, marks: list[Mark]) -> tuple[list[Mark], int, int]:
    """The marks with only what a logarithmic axis can show, how many points were dropped, how many edges cut."""
    dropped = cut = 0
    for letter, axis in (("x", figure.x), ("y", figure.y), ("z", figure.z)):
        if axis is None or axis.scale != "log":
            continue
        floor = _lowest_positive(marks, letter)
        for number, mark in enumerate(marks):
            if mark.kind == "band" and letter == "y":
                marks[number], lost, edges = _band_above(mark, floor)
                dropped, cut = dropped + lost, cut + edges
            elif isinstance(getattr(mark, letter), np.ndarray) and mark.kind != "images":
                marks[number], lost = _points_above(mark, letter)
                dropped += lost
    return marks, dropped, cut


def _lowest_positive(marks: list[Mark], letter: str) -> float:
    names = ("y", "low", "high") if letter == "y" else (letter,)
    arrays = [array for mark in marks for name, array in _held(mark) if name in names]
    positive = np.concatenate([array[array > 0] for array in arrays] or [np.array([])])
    return float(positive.min()) if positive.size else 1.0


def _band_above(mark: Mark, floor: float) -> tuple[Mark, int, int]:
    gone, crosses = mark.high <= 0, (mark.high > 0) & (mark.low <= 0)
    low = np.where(gone, np.nan, np.where(crosses, np.minimum(floor, mark.high), mark.low))
    return replace(mark, low=low, high=np.where(gone, np.nan, mark.high)), int(gone.sum()), int(crosses.sum())


def _points_above(mark: Mark, letter: str) -> tuple[Mark, int]:
    values: Floats = getattr(mark, letter)
    keep = ~(values <= 0)
    kept: dict[str, Any] = {letter: np.where(keep, values, np.nan)}
    if mark.kind in GRIDS and letter in "xy":  # a whole row or column goes with its coordinate
        kept = {letter: values[keep], "z": mark.z[:, keep] if letter == "x" else mark.z[keep]}
    return replace(mark, **kept), int((~keep).sum())


def _remarks(lost: int, dropped: int, cut: int) -> list[str]:
    said = []
    if lost:
        said.append(f"{lost} {_plural('value is', 'values are', lost)} not finite and left as gaps.")
    if dropped:
        what = _plural("value at or below zero has", "values at or below zero have", dropped)
        said.append(f"{dropped} {what} no place on the logarithmic axis and {_plural('is', 'are', dropped)} not shown.")
    if cut:
        what = _plural("band edge falls", "band edges fall", cut)
        said.append(f"{cut} {what} to zero or below; on the logarithmic axis the band is cut at its lowest number.")
    return said


def _plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many
