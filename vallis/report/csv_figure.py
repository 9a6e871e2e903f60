"""Writes a figure's data as CSV, one row a point, that a person and a spreadsheet can read."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vallis.core.figures import Figure, Mark
from vallis.report.clean import GRIDS, coerced

COLUMNS = ("mark", "label", "x", "y", "z", "low", "high", "error")


# The rows of a grid in short: what each begins with, its coordinates, and its heights row by row.
Grid = dict[str, Any]


def to_csv(figure: Figure) -> str:
    """The data in tidy long form under the columns `COLUMNS`; floats round-trip, NaN is an empty cell.

    Nothing is dropped here, also not what a logarithmic axis cannot show.
    In a mark of images, `label` is the image's word (or its number), `x` the column and `y` the row of a pixel.

    Raises:
        ValueError: a mark's arrays do not fit together.
    """
    return "".join(piece if isinstance(piece, str) else _written_out(piece) for piece in to_pieces(figure))


def to_pieces(figure: Figure) -> list[str | Grid]:
    """What `to_csv` gives, cut up for a page: text as it is, and each grid in short, which page.js writes out.

    A grid in full says both coordinates anew for every height, in three quarters of the bytes.

    Raises:
        ValueError: a mark's arrays do not fit together.
    """
    return [_text([COLUMNS]), *(piece for mark in coerced(figure).marks for piece in _pieces(mark))]


def _pieces(mark: Mark) -> Iterator[str | Grid]:
    if mark.kind in GRIDS:
        yield _grid(mark.kind, mark.label, mark.x, mark.y, mark.z)
    elif mark.kind == "images":
        for number, image in enumerate(mark.z):
            word = mark.x[number] if mark.x is not None else f"{mark.label} {number}".strip()
            down, along = (list(map(str, range(size))) for size in image.shape)
            yield _grid(mark.kind, word, along, down, image)
    else:
        yield _text(_rows(mark))


def _rows(mark: Mark) -> Iterator[list[str]]:
    for place in range(len(mark.high) if mark.kind == "band" else len(mark.y)):
        cells = (getattr(mark, name) for name in COLUMNS[2:])
        yield [mark.kind, mark.label, *("" if held is None else _cell(held[place]) for held in cells)]


def _grid(kind: str, label: str, x: Iterable[Any], y: Iterable[Any], z: Any) -> Grid:
    # An empty cell is quoted where it stands alone, so each coordinate is written behind another.
    along, across = ([_text([["", _cell(value)]])[1:-1] for value in values] for values in (x, y))
    return {"head": _text([[kind, label]])[:-1], "x": along, "y": across, "z": [",".join(map(_cell, row)) for row in z]}


def _written_out(grid: Grid) -> str:
    rows = (
        f"{grid['head']},{x},{y},{z},,,\n"
        for y, row in zip(grid["y"], grid["z"], strict=True)
        for x, z in zip(grid["x"], row.split(","), strict=True)
    )
    return "".join(rows)


def _text(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else repr(float(value))
