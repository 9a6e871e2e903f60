"""Writes a surface as a structured grid in the legacy text format of VTK, which ParaView opens as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vallis.core.errors import UsageError
from vallis.core.figures import Figure, Mark
from vallis.report.clean import GRIDS, coerced


def has_surface(figure: Figure) -> bool:
    """Whether there is something in the figure that `to_vtk` can write."""
    return any(mark.kind in GRIDS for mark in figure.marks)


def to_vtk(figure: Figure) -> str:
    """The first surface or heat map: its values as heights and as point data, and their logarithms where positive.

    Several surfaces on one grid stand side by side, a gap between them. Heights are scaled to a third of the side of
    the plane, on the scale of the figure's own axis; the point data hold the values themselves. What is not finite is
    NaN in the data, and lies at the highest place.

    Raises:
        UsageError: the figure has no surface.
        ValueError: a mark's arrays do not fit together.
    """
    grid = _side_by_side([mark for mark in coerced(figure).marks if mark.kind in GRIDS])
    if grid is None:
        raise UsageError(f"a figure with a surface was required, {figure.name} has none: write it as csv")
    name = re.sub(r"\W+", "_", figure.z.label if figure.z and figure.z.label else "value").strip("_") or "value"
    logs = np.full(grid.z.shape, np.nan)
    np.log(grid.z, out=logs, where=np.isfinite(grid.z) & (grid.z > 0))
    is_log = figure.z is not None and figure.z.scale == "log"
    heights = _heights(logs if is_log else grid.z, grid)
    points = [
        f"{x:.9g} {y:.9g} {heights[row, column]:.9g}" for row, y in enumerate(grid.y) for column, x in enumerate(grid.x)
    ]
    lines = [
        "# vtk DataFile Version 3.0",
        # One line, of at most 256 characters, and ASCII only.
        ascii(figure.title)[1:-1].replace("\n", " ")[:200],
        "ASCII",
        "DATASET STRUCTURED_GRID",
        f"DIMENSIONS {len(grid.x)} {len(grid.y)} 1",
        f"POINTS {len(points)} double",
        *points,
        f"POINT_DATA {len(points)}",
        *_scalars(name, grid.z),
        *_scalars(f"log_{name}", logs),
    ]
    return "\n".join(lines) + "\n"


def _side_by_side(grids: Sequence[Mark]) -> Mark | None:
    """One grid of all that are alike, from left to right; else the first of them."""
    if not grids:
        return None
    first = grids[0]
    alike = all(np.array_equal(first.x, other.x) and np.array_equal(first.y, other.y) for other in grids)
    if len(grids) == 1 or len(first.x) < 2 or not alike:
        return first
    step = float(np.ptp(first.x)) / (len(first.x) - 1)
    blank = np.full((len(first.y), max(1, len(first.x) // 12)), np.nan)
    parts = [part for grid in grids for part in (grid.z, blank)][:-1]
    sheet = np.concatenate(parts, axis=1)
    return replace(first, x=first.x[0] + step * np.arange(sheet.shape[1]), z=sheet)


def _heights(values: np.ndarray, grid: Mark) -> np.ndarray:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    side = max(float(np.ptp(grid.x)), float(np.ptp(grid.y))) or 1.0
    filled = np.where(np.isfinite(values), values, high)
    return np.asarray((filled - low) * (side / 3 / (high - low) if high > low else 0.0))


def _scalars(name: str, values: np.ndarray) -> list[str]:
    numbers = ["nan" if not np.isfinite(value) else f"{value:.17g}" for value in values.ravel()]
    return [f"SCALARS {name} double 1", "LOOKUP_TABLE default", *numbers]
