"""Writes a figure's data as CSV, one row a point, that a person and a spreadsheet can read."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from vallis.core.types import Figure, Mark
from vallis.report.clean import GRIDS, coerced

COLUMNS = ("mark", "label", "x", "y", "z", "low", "high", "error")


def to_csv(figure: Figure) -> str:
    """The data in tidy long form under the columns `COLUMNS`; floats round-trip, NaN is an empty cell.

    Nothing is dropped here, also not what a logarithmic axis cannot show.
    In a mark of images, `label` is the image's word (or its number), `x` the column and `y` the row of a pixel.

    Raises:
        ValueError: a mark's arrays do not fit together.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for mark in coerced(figure).marks:
        writer.writerows(_rows(mark))
    return text.getvalue()


def _rows(mark: Mark) -> Iterator[list[str]]:
    if mark.kind == "images":
        yield from _pixels(mark)
        return
    if mark.kind in GRIDS:
        for row, y in enumerate(mark.y):
            for column, x in enumerate(mark.x):
                yield [mark.kind, mark.label, _cell(x), _cell(y), _cell(mark.z[row, column]), "", "", ""]
        return
    size = len(mark.high) if mark.kind == "band" else len(mark.y)
    for place in range(size):
        cells = (getattr(mark, name) for name in COLUMNS[2:])
        yield [mark.kind, mark.label, *("" if held is None else _cell(held[place]) for held in cells)]


def _pixels(mark: Mark) -> Iterator[list[str]]:
    for number, image in enumerate(mark.z):
        word = mark.x[number] if mark.x is not None else f"{mark.label} {number}".strip()
        for (row, column), value in np.ndenumerate(image):
            yield [mark.kind, word, str(column), str(row), _cell(value), "", "", ""]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else repr(float(value))
