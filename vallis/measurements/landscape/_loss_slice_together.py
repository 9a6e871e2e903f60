"""Slices of several networks on shared axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from vallis.core.errors import UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Result

LINES = ("first", "second")


def together(named: Mapping[str, Result], title: str = "Several networks along the same directions") -> list[Figure]:
    """The results of `loss_slice` for several networks on shared axes.

    All lines are in one figure, all planes on one scale of colours, all surfaces side by side on one scale of heights.
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
    planes = {name: result.array("losses_plane") for name, result in named.items()}
    positive = all(bool((plane.data[np.isfinite(plane.data)] > 0).all()) for plane in planes.values())
    axes: dict[str, Any] = {
        "x": Axis(label="step along the first direction"),
        "y": Axis(label="step along the second direction"),
        "z": Axis(label=f"loss ({unit})", scale="log" if positive else "linear"),
    }
    found = []
    kinds: tuple[tuple[str, Literal["heatmap", "surface"]], ...] = (
        ("planes_together", "heatmap"),
        ("surfaces_together", "surface"),
    )
    for figure, kind in kinds:
        marks = tuple(
            Mark(kind=kind, x=plane.coords["first_step"], y=plane.coords["second_step"], z=plane.data, label=name)
            for name, plane in planes.items()
        )
        found.append(Figure(name=figure, title=title, marks=marks, **axes))
    return found
