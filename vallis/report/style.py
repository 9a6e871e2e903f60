"""The one description of how everything looks: both drawing backends and the page take it from here.

Colours are checked in the tests: text reaches a contrast of 4.5 and lines of 3 on the paper they stand on, and any two
series stay apart for the three kinds of colour blindness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ThemeName = Literal["light", "dark"]

# Named fonts before generic ones: what Linux calls "sans-serif" is often far wider than what a page is laid out for.
SANS = (
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "Arial",
    "Liberation Sans",
    "Noto Sans",
    "DejaVu Sans",
    "sans-serif",
)
SERIF = (
    "Charter",
    "Iowan Old Style",
    "Source Serif 4",
    "Palatino Linotype",
    "Palatino",
    "Georgia",
    "Liberation Serif",
    "Noto Serif",
    "serif",
)
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "DejaVu Sans Mono", "monospace")

FONT_SIZE = 13
LINE_WIDTH = 1.9
MARKER_SIZE = 6.0
BAND_OPACITY = 0.18
# Of areas that stand for a class each, under marks of the same colours.
AREA_OPACITY = 0.42
MARKER_OPACITY = 0.85
# Beyond the colours, the dashes tell series apart: in print, and for people who see few colours.
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True, kw_only=True)
class Theme:
    """The colours of a page and of the figures on it.

    Attributes:
        paper: the background of the page.
        panel: the background of a card.
        ink: text.
        muted: secondary text.
        rule: hairlines and the grid of figures.
        accent: links and what is chosen.
        good: a claim that holds.
        bad: a claim that fails, a measurement that failed.
        unsure: undecided, or to be taken with care.
        series: the colours of what a figure compares, in order.
    """

    paper: str
    panel: str
    ink: str
    muted: str
    rule: str
    accent: str
    good: str
    bad: str
    unsure: str
    series: tuple[str, ...]


LIGHT = Theme(
    paper="#fcfbf8",
    panel="#ffffff",
    ink="#1c2126",
    muted="#5a626b",
    rule="#e3dfd6",
    accent="#1f5da2",
    good="#1b7048",
    bad="#ad3223",
    unsure="#7d5a00",
    series=("#1f5da2", "#b4400a", "#1a8777", "#7a365c", "#b28a1e", "#6f93c6"),
)
DARK = Theme(
    paper="#14171b",
    panel="#1a1e23",
    ink="#e8e5df",
    muted="#a3a9b1",
    rule="#2f353c",
    accent="#82b4f5",
    good="#74c99b",
    bad="#f2907f",
    unsure="#e3b95a",
    series=("#6aa1fe", "#f08b4a", "#65ccb0", "#d077c1", "#e0cc6a", "#d5d9e2"),
)
THEMES: Mapping[ThemeName, Theme] = {"light": LIGHT, "dark": DARK}

# As on a sea chart: deep blue is low, pale sand is high. Lightness rises evenly, so it also reads in grey.
SEQUENTIAL = ("#0b1f4b", "#173f7a", "#1d659a", "#2a8bab", "#55aeb0", "#8fcbb4", "#c8e2bd", "#f6f2cf")
# For numbers of both signs: the middle is zero.
DIVERGING = ("#173f7a", "#4f86bd", "#a9c8e0", "#f2efe8", "#e9b795", "#c8683a", "#7d2606")
GREY = ("#000000", "#ffffff")


def series_style(place: int) -> tuple[int, str]:
    """The place of a series' colour among the theme's, and its dash: colours first, then the next dash."""
    count = len(LIGHT.series)
    return place % count, DASHES[(place // count) % len(DASHES)]


def stops(colours: tuple[str, ...]) -> list[tuple[float, str]]:
    """The colours evenly over 0..1, as both backends want them."""
    return [(place / (len(colours) - 1), colour) for place, colour in enumerate(colours)]


def family(fonts: tuple[str, ...]) -> str:
    """The fonts as CSS writes them: names of several words in quotes."""
    return ", ".join(f'"{font}"' if " " in font else font for font in fonts)
