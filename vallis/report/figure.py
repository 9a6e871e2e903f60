"""What can be done with a figure: save it for a paper, turn it into plain JSON and back, say it in words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vallis.core import files
from vallis.core.errors import UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.report.clean import clean, coerced

FORMATS = ("pdf", "svg", "png", "csv")
# Of figures with a surface alone.
SURFACE_FORMATS = ("vtk",)
_VALUES = ("x", "y", "z", "low", "high", "error")


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes the figure; the suffix says as what: ``.pdf``, ``.svg``, ``.png`` (by matplotlib) or ``.csv`` (its data).

    A surface can be written as ``.vtk``, too, for ParaView.

    Raises:
        UsageError: the suffix is another, or matplotlib is needed and not installed, or there is no surface.
        OutputError: the file cannot be written.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS + SURFACE_FORMATS:
        known = ", ".join(f".{known}" for known in FORMATS + SURFACE_FORMATS)
        raise UsageError(f"a figure can be saved as {known}, {Path(path).name!r} came: choose one of these suffixes")
    if suffix == "vtk":
        from vallis.report.vtk import to_vtk

        return files.write_text(path, to_vtk(figure))
    if suffix == "csv":
        from vallis.report.csv_figure import to_csv

        return files.write_text(path, to_csv(figure))
    from vallis.report.matplotlib_figure import render

    return files.write_bytes(path, render(figure, suffix))


def to_plain(figure: Figure) -> dict[str, Any]:
    """The figure as plain JSON values; what is not finite becomes None."""
    figure = coerced(figure)
    plain: dict[str, Any] = {"name": figure.name, "title": figure.title, "caption": figure.caption}
    for letter in "xyz":
        axis = getattr(figure, letter)
        plain[letter] = None if axis is None else _plain_axis(axis)
    plain["same_scale"] = figure.same_scale
    plain["marks"] = [_plain_mark(mark) for mark in figure.marks]
    return plain


def from_plain(plain: Mapping[str, Any]) -> Figure:
    """The figure that `to_plain` gave; None becomes NaN.

    Raises:
        UsageError: it is no figure.
    """
    try:
        axes: dict[str, Any] = {letter: None if plain[letter] is None else _axis(plain[letter]) for letter in "xyz"}
        marks = tuple(Mark(**{key: _array(value) for key, value in mark.items()}) for mark in plain["marks"])
        words: dict[str, Any] = {key: str(plain[key]) for key in ("name", "title", "caption")}
        return Figure(**words, **axes, marks=marks, same_scale=bool(plain.get("same_scale", False)))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"a figure as JSON was required, something else came ({error!r}): write it anew") from error


def describe(figure: Figure) -> str:
    """One sentence that says the figure to somebody who cannot see it: kinds of marks, labels and ranges."""
    figure = clean(figure)
    kinds = dict.fromkeys(mark.kind for mark in figure.marks)
    labels = list(dict.fromkeys(mark.label for mark in figure.marks if mark.label))
    said = f"{figure.title}: {' and '.join(kinds) or 'nothing'}"
    if labels:
        said += f" of {', '.join(labels)}"
    spans = [_span(figure, letter) for letter in "xyz"]
    return "; ".join([said, *(span for span in spans if span)]) + "."


def _plain_axis(axis: Axis) -> dict[str, Any]:
    plain: dict[str, Any] = {"label": axis.label, "scale": axis.scale}
    return plain | ({"ticks": [list(tick) for tick in axis.ticks]} if axis.ticks else {})


def _axis(plain: Mapping[str, Any]) -> Axis:
    return Axis(**{**plain, "ticks": tuple((float(place), str(word)) for place, word in plain.get("ticks", ()))})


def _plain_mark(mark: Mark) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": mark.kind, "label": mark.label}
    for name in _VALUES:
        value = getattr(mark, name)
        if value is not None:
            plain[name] = _plain(value.tolist()) if isinstance(value, np.ndarray) else list(value)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if np.isfinite(value) else None


def _array(value: Any) -> Any:
    if isinstance(value, list) and not any(isinstance(item, str) for item in value):
        return np.array(value, dtype=np.float64)
    return value


def _span(figure: Figure, letter: str) -> str:
    axis: Axis | None = getattr(figure, letter)
    if axis is None or axis.scale == "category" or axis.ticks:
        return ""
    held = [getattr(mark, name) for mark in figure.marks for name in _names_along(letter)]
    arrays = [value[np.isfinite(value)] for value in held if isinstance(value, np.ndarray)]
    joined = np.concatenate([array.ravel() for array in arrays]) if arrays else np.array([])
    if not joined.size:
        return ""
    return f"{axis.label or letter} from {joined.min():.3g} to {joined.max():.3g}"


def _names_along(letter: str) -> tuple[str, ...]:
    return ("y", "low", "high") if letter == "y" else (letter,)
