"""Writes a surface as a structured grid in the legacy text format of VTK, which ParaView opens as it is."""

from __future__ import annotations

import re

import numpy as np

from vallis.core.errors import UsageError
from vallis.core.types import Figure, Mark
from vallis.report.clean import GRIDS, coerced


def has_surface(figure: Figure) -> bool:
    """Whether there is something in the figure that `to_vtk` can write."""
    return any(mark.kind in GRIDS for mark in figure.marks)


def to_vtk(figure: Figure) -> str:
    """The first surface or heat map: its values as heights and as point data, and their logarithms where positive.

    Heights are scaled to a third of the side of the plane, on the scale of the figure's own axis; the point data hold
    the values themselves. What is not finite is NaN in the data, and lies at the highest place.

    Raises:
        UsageError: the figure has no surface.
        ValueError: a mark's arrays do not fit together.
    """
    grid = next((mark for mark in coerced(figure).marks if mark.kind in GRIDS), None)
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


def _heights(values: np.ndarray, grid: Mark) -> np.ndarray:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    side = max(float(np.ptp(grid.x)), float(np.ptp(grid.y))) or 1.0
    filled = np.where(np.isfinite(values), values, high)
    return np.asarray((filled - low) * (side / 3 / (high - low) if high > low else 0.0))


def _scalars(name: str, values: np.ndarray) -> list[str]:
    numbers = ["nan" if not np.isfinite(value) else f"{value:.17g}" for value in values.ravel()]
    return [f"SCALARS {name} double 1", "LOOKUP_TABLE default", *numbers]
