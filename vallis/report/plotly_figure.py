"""Draws a figure as a plotly specification: a plain dict that plotly.js in a page, or plotly in a notebook, shows.

Colours are tokens ("@ink", "@series2") until a theme is chosen, so that the page can change its theme without us.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.report import style
from vallis.report.clean import GRIDS, Floats, clean, colour_places
from vallis.report.geometry import (
    categories,
    colour_range,
    heights_together,
    legend_marks,
    mosaic,
    panels,
    places_of,
)
from vallis.report.plotly_axes import Spec, escape, layout_of, said, title_text


def plotly_figure(figure: Figure, theme: style.ThemeName | None = None) -> Spec:
    """``{"data": [...], "layout": {...}}`` as plain JSON values.

    Args:
        figure: what to draw.
        theme: its colours; None leaves the tokens for the page to resolve.

    Raises:
        ValueError: a mark's arrays do not fit together.
    """
    figure = clean(figure)
    places = colour_places(figure)
    legend = legend_marks(figure.marks)
    traces = [_trace(figure, m, places[n], n in legend) for n, m in enumerate(figure.marks)]
    for number, mark in enumerate(panels(figure)[1:], start=2):  # the first is in the one without a number
        place = {"scene": f"scene{number}"} if mark.kind == "surface" else {"xaxis": f"x{number}", "showscale": False}
        traces[number - 1][0] |= place
    spec = {"data": [part for trace in traces for part in trace], "layout": layout_of(figure, bool(legend))}
    return spec if theme is None else resolve(spec, tokens(style.THEMES[theme]))


def tokens(theme: style.Theme) -> dict[str, str]:
    """What each colour token stands for in a theme."""
    named = {f"@{name}": getattr(theme, name) for name in ("paper", "panel", "ink", "muted", "rule", "accent")}
    for place, colour in enumerate(theme.series):
        named[f"@series{place}"] = colour
        named[f"@band{place}"] = _faint(colour, style.BAND_OPACITY)
        named[f"@area{place}"] = _faint(colour, style.AREA_OPACITY)
    return named


def resolve(value: Any, colours: Mapping[str, str], key: str = "") -> Any:
    """The specification with its tokens replaced; only under keys that hold colours, so never in a text."""
    if isinstance(value, dict):
        return {name: resolve(held, colours, name) for name, held in value.items()}
    if isinstance(value, list):
        return [resolve(held, colours, key) for held in value]
    return colours.get(value, value) if isinstance(value, str) and "color" in key else value


def _trace(figure: Figure, mark: Mark, place: int, in_legend: bool) -> list[Spec]:
    if mark.kind in GRIDS:
        known = categories(figure, mark)
        return [_areas(figure, mark, known) if known else _grid(figure, mark)]
    if mark.kind == "images":
        return [_images(mark)]
    shared = {"name": said(mark.label, 40), "showlegend": in_legend}
    if mark.label:
        shared["legendgroup"] = escape(mark.label)
    if mark.kind == "band":
        return _band(figure, mark, place, shared)
    return [_series(figure, mark, place, shared)]


def _series(figure: Figure, mark: Mark, place: int, shared: Spec) -> Spec:
    colour, dash = style.series_style(place)
    trace: Spec = {**shared, "x": _plain(mark.x), "y": _plain(mark.y), "hovertemplate": _hover(figure, mark)}
    lying = mark.kind == "bar" and figure.y.scale == "category"
    if mark.kind == "bar":
        trace |= {"type": "bar", "orientation": "h" if lying else "v", "marker": {"color": f"@series{colour}"}}
    elif mark.kind == "line":
        line = {"color": f"@series{colour}", "width": style.LINE_WIDTH, "dash": dash}
        trace |= {"type": "scatter", "mode": "lines", "line": line, "connectgaps": False}
    else:
        symbol = ("circle", "square", "diamond", "triangle-up")[(place // len(style.LIGHT.series)) % 4]
        marker = {
            "color": f"@series{colour}",
            "size": style.MARKER_SIZE,
            "opacity": style.MARKER_OPACITY,
            "symbol": symbol,
        }
        if any(other.kind in GRIDS for other in figure.marks):  # on a coloured ground a rim keeps points apart from it
            marker |= {"line": {"color": "@paper", "width": 1.2}, "opacity": 1.0, "size": style.MARKER_SIZE + 1.5}
        if mark.z is not None:
            marker |= _tinted(figure, mark)
            trace["text"] = _plain(mark.z)  # for hovering
        trace |= {"type": "scatter", "mode": "markers", "marker": marker}
    if mark.error is not None:
        error_colour = "@ink" if mark.kind == "bar" else f"@series{colour}"
        bars = {"type": "data", "array": _plain(mark.error), "color": error_colour, "thickness": 1.2, "width": 3}
        trace["error_x" if lying else "error_y"] = bars
        trace["customdata"] = _plain(mark.error)  # for hovering
    return trace


def _tinted(figure: Figure, mark: Mark) -> Spec:
    """Points in the colours of their numbers, with a bar that tells them."""
    lowest, highest, colours = colour_range(mark.z)
    return {
        "color": _plain(np.where(np.isfinite(mark.z), mark.z, lowest)),  # of a gap nothing is drawn
        "cmin": lowest,
        "cmax": highest,
        "colorscale": [list(stop) for stop in style.stops(colours)],
        "showscale": True,
        "colorbar": _colour_bar(figure),
        "line": {"color": "@muted", "width": 0.5},
    }


def _colour_bar(figure: Figure) -> Spec:
    title = {
        "text": title_text(figure.z) if figure.z else "",
        "side": "right",
        "font": {"color": "@muted", "size": style.FONT_SIZE},
    }
    fonts = {"tickfont": {"color": "@muted", "size": style.FONT_SIZE - 1}}
    return {"title": title, "thickness": 12, "outlinewidth": 0, "len": 1, "ypad": 0, **fonts}


def _band(figure: Figure, mark: Mark, place: int, shared: Spec) -> list[Spec]:
    # One closed outline for each run without a gap: a polygon over a gap would claim what was not measured.
    colour, _ = style.series_style(place)
    known = np.isfinite(mark.low) & np.isfinite(mark.high)
    if isinstance(mark.x, np.ndarray):
        known &= np.isfinite(mark.x)
    x: list[Any] = []
    y: list[Any] = []
    for run in _runs(known):
        along = _plain(mark.x)[run]
        x += [*along, *reversed(along), None]
        y += [*_plain(mark.high)[run], *reversed(_plain(mark.low)[run]), None]
    outline = {"mode": "lines", "line": {"width": 0, "color": f"@series{colour}"}}
    filled = {"fill": "toself", "fillcolor": f"@band{colour}", "hoverinfo": "skip"}
    return [{**shared, "type": "scatter", "x": x, "y": y, **outline, **filled}]


def _grid(figure: Figure, mark: Mark) -> Spec:
    logarithmic = figure.z is not None and figure.z.scale == "log"
    values = np.log10(mark.z) if logarithmic else mark.z
    label = said(figure.z.label) if figure.z is not None else ""
    lowest, highest, colours = colour_range(heights_together(figure), logarithmic)
    bar = _colour_bar(figure)
    if logarithmic:
        bar |= _powers(lowest, highest)
    by_hand = logarithmic and mark.kind == "heatmap"  # its z are exponents, so hovering shows numbers kept beside
    number = "customdata:.4~g" if by_hand else "z:.4~g"
    hover = _lines(_field(figure.x, "x"), _field(figure.y, "y"), f"{label or 'value'} %{{{number}}}")
    shared: Spec = {
        "x": _plain(mark.x),
        "y": _plain(mark.y),
        "colorscale": [list(stop) for stop in style.stops(colours)],
        "cmin" if mark.kind == "surface" else "zmin": lowest,
        "cmax" if mark.kind == "surface" else "zmax": highest,
        "colorbar": bar,
        "name": escape(mark.label),
        "hovertemplate": hover,
    }
    if mark.kind == "heatmap":
        hovered = {"customdata": _heights(mark.z)} if by_hand else {}
        return {"type": "heatmap", "z": _heights(values), **shared, **hovered}
    light = {"ambient": 0.75, "diffuse": 0.5, "specular": 0.08, "roughness": 0.9}
    lines = {"z": {"show": True, "usecolormap": False, "color": "rgba(255,255,255,0.35)", "width": 1}}
    surface = {"type": "surface", "z": _heights(mark.z), "surfacecolor": _heights(values), "lighting": light}
    shared["showscale"] = False  # the axis of height says the same
    return {**surface, **shared, "contours": lines}


def _areas(figure: Figure, mark: Mark, known: list[float]) -> Spec:
    """A heatmap of classes: the first in the first colour, and so on."""
    count, label = len(known), said(figure.z.label) if figure.z is not None else ""
    ends = [[(place + side) / count, f"@area{place}"] for place in range(count) for side in (0, 1)]
    ticks = {"tickmode": "array", "tickvals": list(range(count)), "ticktext": [f"{value:g}" for value in known]}
    return {
        "type": "heatmap",
        "x": _plain(mark.x),
        "y": _plain(mark.y),
        "z": _plain(places_of(mark.z, known)),
        "customdata": _plain(mark.z),
        "colorscale": ends,
        "zmin": -0.5,
        "zmax": count - 0.5,
        "colorbar": _colour_bar(figure) | ticks,
        "name": escape(mark.label),
        "hovertemplate": _lines(_field(figure.x, "x"), _field(figure.y, "y"), f"{label} %{{customdata}}"),
    }


def _images(mark: Mark) -> Spec:
    tiled, _ = mosaic(mark)
    lowest, highest, _ = colour_range(mark.z)
    return {
        "type": "heatmap",
        "z": _heights(tiled),
        "zmin": lowest,
        "zmax": highest,
        "colorscale": [list(stop) for stop in style.stops(style.GREY)],
        "showscale": False,
        "hovertemplate": "%{z:.4~g}<extra></extra>",
    }


def _hover(figure: Figure, mark: Mark) -> str:
    lines = [_field(figure.x, "x"), _field(figure.y, "y")]
    if mark.error is not None:
        lines[0 if figure.y.scale == "category" else 1] += " ± %{customdata:.2~g}"
    if mark.z is not None and mark.kind == "scatter":
        lines.append(f"{said(figure.z.label) if figure.z else 'colour'} %{{text:.4~g}}")
    return _lines(f"<b>{said(mark.label, 40)}</b>" if mark.label else "", *lines)


def _lines(*lines: str) -> str:
    return f"{'<br>'.join(line for line in lines if line)}<extra></extra>"


def _field(axis: Axis, letter: str) -> str:
    if axis.ticks:  # the number of the place is not what its tick says
        return ""
    shown = letter if axis.scale == "category" else f"{letter}:.4~g"
    return f"{said(axis.label) or letter} %{{{shown}}}"


def _powers(lowest: float, highest: float) -> Spec:
    """Ticks of a colour bar whose numbers are exponents."""
    first, last = math.ceil(lowest), math.floor(highest)
    step = max(1, (last - first) // 6 + 1)
    ticks = [float(power) for power in range(first, last + 1, step)] or [lowest, highest]
    text = [f"10<sup>{tick:.3g}</sup>".replace("-", "\N{MINUS SIGN}") for tick in ticks]
    return {"tickmode": "array", "tickvals": ticks, "ticktext": text}


def _runs(known: Any) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _plain(values: Any, digits: int = 9) -> Any:
    """Nested lists with None for gaps and at most nine digits: what a screen can show, at half the bytes."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, list):
        return [_plain(value, digits) for value in values]
    if isinstance(values, str):
        return escape(values)
    return float(f"{values:.{digits}g}") if math.isfinite(values) else None


def _heights(values: Floats) -> Any:
    """A grid, of which no screen shows more than five or six digits: more of one that is flat and far from zero."""
    known = values[np.isfinite(values)]
    largest = float(np.abs(known).max(initial=0.0))
    span = float(np.ptp(known / largest)) if largest else 0.0
    return _plain(values, min(9, 6 + math.floor(-math.log10(min(1.0, span)))) if span else 9)


def _faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
