"""Slices of several networks on shared axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vallis.core.errors import UsageError
from vallis.core.types import Axis, Figure, Mark, Result

LINES = ("first", "second")


def together(named: Mapping[str, Result], title: str = "Several networks along the same directions") -> list[Figure]:
    """The results of `loss_slice` for several networks: all lines in one figure, all planes on one scale of colours.

    The directions are made of the same noise for networks of one architecture, and are as long as the filters of each,
    so that a step means the same for all.

    Args:
        named: the results by what to call them; measured with the same settings.
        title: of the figures.

    Raises:
        UsageError: there is none, or their lines or planes are on different grids.
    """
    held = list(named.values())
    grids = {tuple(result.array("losses_plane").coords["first_step"]) for result in held}
    steps = {tuple(result.array("losses_first").coords["step"]) for result in held}
    if len(grids) != 1 or len(steps) != 1:
        raise UsageError(
            f"slices on one grid were required, {len(grids)} grids of planes and {len(steps)} of lines came: measure "
            "them with the same settings"
        )
    unit = held[0].estimate("centre_loss").unit
    return [_lines(named, title, unit), *_planes(named, title, unit)]


def _lines(named: Mapping[str, Result], title: str, unit: str) -> Figure:
    marks = []
    for name, result in named.items():
        for which in LINES:
            line = result.array(f"losses_{which}")
            marks.append(Mark(kind="line", x=line.coords["step"], y=line.data, label=f"{name}, {which} direction"))
    return Figure(
        name="lines_together",
        title=title,
        x=Axis(label="step (1: every filter moved by its norm)"),
        y=Axis(label=f"loss ({unit})", scale="log" if all((mark.y > 0).all() for mark in marks) else "linear"),
        marks=tuple(marks),
    )


def _planes(named: Mapping[str, Result], title: str, unit: str) -> list[Figure]:
    planes = [result.array("losses_plane") for result in named.values()]
    x, y = (planes[0].coords[dim] for dim in ("first_step", "second_step"))
    blank = np.full((len(y), max(1, len(x) // 12)), np.nan)
    pieces = [piece for plane in planes for piece in (plane.data, blank)][:-1]
    sheet = np.concatenate(pieces, axis=1)
    across = x[0] + (x[1] - x[0]) * np.arange(sheet.shape[1])
    positive = bool((sheet[np.isfinite(sheet)] > 0).all())
    axes = {
        "x": Axis(label="step along the first direction, networks side by side"),
        "y": Axis(label="step along the second direction"),
        "z": Axis(label=f"loss ({unit})", scale="log" if positive else "linear"),
    }
    names = f"From left to right: {', '.join(named)}."
    flat, raised = (Mark(kind=kind, x=across, y=y, z=sheet) for kind in ("heatmap", "surface"))
    return [
        Figure(name="planes_together", title=title, marks=(flat,), caption=names, **axes),
        Figure(name="surfaces_together", title=title, marks=(raised,), caption=names, **axes),
    ]
