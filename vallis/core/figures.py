"""A picture as data: axes, the marks between them, and nothing of how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: its label (with the unit) and whether it is linear, logarithmic or a row of words."""

    label: str
    scale: Literal["linear", "log", "category"] = "linear"
    ticks: tuple[tuple[float, str], ...] = ()  # places and their words, where numbers along it say something else


@dataclass(frozen=True, kw_only=True, eq=False)
class Mark:
    """One layer of a figure.

    Attributes:
        kind: line, scatter, bar, band (between `low` and `high`), heatmap and surface (`z` on the grid `y` by `x`; many
            alone stand side by side, by label), images (`z` (K, height, width)). A scatter's `z` ``(n,)`` tints it.
        error: half-length of error bars along y, ``(n,)``.
        x: coordinates ``(n,)``; words where the axis is a category.
    """

    kind: Literal["line", "band", "scatter", "bar", "heatmap", "surface", "images"]
    x: Any = None
    y: Any = None
    z: Any = None
    low: Any = None
    high: Any = None
    error: Any = None
    label: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """A picture as data: drawn by plotly in the page, by matplotlib for papers, written as CSV for everybody else."""

    name: str
    title: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    z: Axis | None = None
    caption: str = ""
    same_scale: bool = False  # x and y are lengths in one space: a circle is drawn as a circle
