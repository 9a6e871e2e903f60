"""Draws a figure as a plotly specification: a plain dict that plotly.js in a page, or plotly in a notebook, shows.

Colours are tokens ("@ink", "@series2") until a theme is chosen, so that the page can change its theme without us.
Plotly reads labels as HTML-like markup; every text that comes from a part is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vallis.core.types import Axis, Figure, Mark
from vallis.report import prose, style
from vallis.report.clean import GRIDS, Floats, clean, colour_places

Spec = dict[str, Any]


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
    legend = _legend(figure.marks)
    traces = [_trace(figure, m, places[n], n in legend) for n, m in enumerate(figure.marks)]
    spec = {"data": [part for trace in traces for part in trace], "layout": _layout(figure, bool(legend))}
    return spec if theme is None else resolve(spec, tokens(style.THEMES[theme]))


def tokens(theme: style.Theme) -> dict[str, str]:
    """What each colour token stands for in a theme."""
    named = {f"@{name}": getattr(theme, name) for name in ("paper", "panel", "ink", "muted", "rule", "accent")}
    for place, colour in enumerate(theme.series):
        named[f"@series{place}"] = colour
        named[f"@band{place}"] = _faint(colour)
    return named


def resolve(value: Any, colours: Mapping[str, str], key: str = "") -> Any:
    """The specification with its tokens replaced; only under keys that hold colours, so never in a text."""
    if isinstance(value, dict):
        return {name: resolve(held, colours, name) for name, held in value.items()}
    if isinstance(value, list):
        return [resolve(held, colours, key) for held in value]
    return colours.get(value, value) if isinstance(value, str) and "color" in key else value


def escape(text: str) -> str:
    """The text so that plotly shows it letter by letter: no markup, no entities, no template fields."""
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("%{", "%&#123;")):
        text = text.replace(plain, entity)
    return text


def _said(text: str, most: int = 72) -> str:
    return escape(prose.label(text, most))


def _legend(marks: tuple[Mark, ...]) -> set[int]:
    """Which marks stand for their label in the legend: the first that has it and is no band, else the first band."""
    chosen: dict[str, int] = {}
    for number, mark in sorted(enumerate(marks), key=lambda pair: pair[1].kind == "band"):
        if mark.label and mark.kind not in (*GRIDS, "images"):
            chosen.setdefault(mark.label, number)
    return set(chosen.values())


def _trace(figure: Figure, mark: Mark, place: int, in_legend: bool) -> list[Spec]:
    if mark.kind in GRIDS:
        return [_grid(figure, mark)]
    if mark.kind == "images":
        return [_images(mark)]
    shared = {"name": _said(mark.label, 40), "showlegend": in_legend}
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
        trace |= {"type": "scatter", "mode": "markers", "marker": marker}
    if mark.error is not None:
        error_colour = "@ink" if mark.kind == "bar" else f"@series{colour}"
        bars = {"type": "data", "array": _plain(mark.error), "color": error_colour, "thickness": 1.2, "width": 3}
        trace["error_x" if lying else "error_y"] = bars
    return trace


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
    label = _said(figure.z.label) if figure.z is not None else ""
    lowest, highest, colours = colour_range(values, logarithmic)
    fonts = {"tickfont": {"color": "@muted", "size": style.FONT_SIZE - 1}}
    title = {"text": label, "side": "right", "font": {"color": "@muted", "size": style.FONT_SIZE}}
    bar: Spec = {"title": title, "thickness": 12, "outlinewidth": 0, "len": 1, "ypad": 0, **fonts}
    if logarithmic:
        bar |= _powers(lowest, highest)
    by_hand = logarithmic and mark.kind == "heatmap"  # its z are exponents, so hovering shows numbers kept beside
    shown = "customdata:.4~g" if by_hand else "z:.4~g"
    hover = f"{_field(figure.x, 'x')}<br>{_field(figure.y, 'y')}<br>{label or 'value'} %{{{shown}}}<extra></extra>"
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
        return {"type": "heatmap", "z": _plain(values), **shared} | ({"customdata": _plain(mark.z)} if by_hand else {})
    light = {"ambient": 0.75, "diffuse": 0.5, "specular": 0.08, "roughness": 0.9}
    lines = {"z": {"show": True, "usecolormap": False, "color": "rgba(255,255,255,0.35)", "width": 1}}
    surface = {"type": "surface", "z": _plain(mark.z), "surfacecolor": _plain(values), "lighting": light}
    shared["showscale"] = False  # the axis of height says the same
    return {**surface, **shared, "contours": lines}


def _images(mark: Mark) -> Spec:
    tiled, _ = mosaic(mark)
    lowest, highest, _ = colour_range(mark.z)
    return {
        "type": "heatmap",
        "z": _plain(tiled),
        "zmin": lowest,
        "zmax": highest,
        "colorscale": [list(stop) for stop in style.stops(style.GREY)],
        "showscale": False,
        "hovertemplate": "%{z:.4~g}<extra></extra>",
    }


def mosaic(mark: Mark) -> tuple[Floats, list[tuple[float, float, str]]]:
    """All images of a mark on one sheet, a gap between them, and a word with its place under each that has one."""
    count, height, width = mark.z.shape
    columns = math.ceil(math.sqrt(2 * count * height / max(width, 1))) if count else 1
    gap = max(1, round(0.08 * max(height, width)))
    below = gap + (max(2, round(0.22 * height)) if mark.x is not None else 0)
    rows = math.ceil(count / columns)
    sheet = np.full((max(1, rows * (height + below) - gap), max(1, columns * (width + gap) - gap)), np.nan)
    captions = []
    for number, image in enumerate(mark.z):
        top, left = (number // columns) * (height + below), (number % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
        if mark.x is not None:
            captions.append((left + (width - 1) / 2, top + height - 0.5, mark.x[number]))
    return sheet, captions


def colour_range(values: Floats, logarithmic: bool = False) -> tuple[float, float, tuple[str, ...]]:
    """The range of colours and their scale: around zero when numbers of both signs are of similar size.

    Of numbers on a logarithmic scale it takes the exponents, whose signs say nothing.
    """
    known = values[np.isfinite(values)]
    lowest, highest = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if not logarithmic and lowest < 0 < highest and min(-lowest, highest) > 0.1 * max(-lowest, highest):
        size = max(-lowest, highest)
        return -size, size, style.DIVERGING
    return lowest, highest, style.SEQUENTIAL


def bar_gap(figure: Figure) -> float:
    """The share of each step between bars that stays empty: few bars are kept from becoming walls."""
    sizes = [len(mark.x) for mark in figure.marks if mark.kind == "bar"]
    return max(0.25, round(0.8 - 0.1 * sum(sizes), 2))


def _layout(figure: Figure, has_legend: bool) -> Spec:
    kinds = {mark.kind for mark in figure.marks}
    font = {"family": style.family(style.SANS), "size": style.FONT_SIZE, "color": "@ink"}
    layout: Spec = {
        "font": font,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 12, "r": 12, "t": 8, "b": 12},
        "showlegend": has_legend,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "hoverlabel": {"bgcolor": "@panel", "bordercolor": "@rule", "font": font},
        "hovermode": "closest",
        "bargap": bar_gap(figure),
    }
    if "heatmap" in kinds:
        layout["meta"] = {"aspect": 0.7}
    if "surface" in kinds:
        axes = {f"{letter}axis": _axis_3d(figure, letter) for letter in "xyz"}
        camera = {"eye": {"x": 1.2, "y": -1.2, "z": 0.8}, "center": {"x": 0, "y": 0, "z": -0.13}}
        layout["scene"] = {**axes, "camera": camera, "aspectmode": "manual", "aspectratio": {"x": 1, "y": 1, "z": 0.7}}
    elif "images" in kinds:
        layout |= _image_axes(figure)
    else:
        for letter in "xy":
            layout[f"{letter}axis"] = _axis(figure, letter, "heatmap" in kinds)
        if figure.y.scale == "category":  # the first word on top, as one reads
            layout["yaxis"]["autorange"] = "reversed"
    return layout


def _axis(figure: Figure, letter: str, filled: bool) -> Spec:
    axis: Axis = getattr(figure, letter)
    font = {"color": "@muted", "size": style.FONT_SIZE}
    spec: Spec = {
        "title": {"text": _said(axis.label), "font": font, "standoff": 10},
        "type": axis.scale,
        "automargin": True,
        "gridcolor": "@rule",
        "linecolor": "@rule",
        "tickcolor": "@rule",
        "tickfont": {**font, "size": style.FONT_SIZE - 1},
        "showline": not filled,
        "showgrid": not filled and axis.scale != "category",
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "exponentformat": "power",
    }
    if axis.scale == "log":
        spec |= _log_ticks(_decades(figure, letter))
    return spec | _words(figure, letter)


def _decades(figure: Figure, letter: str) -> float:
    names = ("y", "low", "high") if letter == "y" else (letter,)
    held = [getattr(mark, name) for mark in figure.marks for name in names]
    known = [array[array > 0] for array in held if isinstance(array, np.ndarray)]
    ends = [float(end) for array in known if array.size for end in (array.min(), array.max())]
    return math.log10(max(ends) / min(ends)) if ends else 1.0


def _log_ticks(decades: float) -> Spec:
    # Left alone, plotly writes a small 2, 3, 4 ... between powers of ten that are written larger than all else.
    if decades > 3:
        return {"nticks": 5 if decades > 5 else 4, "tickfont": {"color": "@muted", "size": style.FONT_SIZE - 3}}
    return {"nticks": max(3, round(2.5 * decades)), "tickformat": "~g"}


def _words(figure: Figure, letter: str) -> Spec:
    """Ticks of an axis of words: what stands at each is the word, cut; its place keeps the whole word."""
    held = (getattr(mark, letter) for mark in figure.marks)
    words = dict.fromkeys(word for words in held if isinstance(words, list) for word in words)
    if not words:
        return {}
    return {"tickmode": "array", "tickvals": [escape(w) for w in words], "ticktext": [_said(w, 28) for w in words]}


def _axis_3d(figure: Figure, letter: str) -> Spec:
    axis = getattr(figure, letter) or Axis(label="")
    lines = dict.fromkeys(("gridcolor", "linecolor", "zerolinecolor"), "@rule")
    fonts = {"tickfont": {"color": "@muted", "size": 11}, "exponentformat": "power", "nticks": 5}
    title = {"text": _said(axis.label), "font": {"color": "@muted", "size": 12}}
    shared = {"title": title, "type": axis.scale, "showbackground": False, "showspikes": False, **lines, **fonts}
    return shared | (_log_ticks(_decades(figure, letter)) if axis.scale == "log" else {})


def _image_axes(figure: Figure) -> Spec:
    hidden: Spec = {"visible": False, "constrain": "domain"}
    mark = next(mark for mark in figure.marks if mark.kind == "images")
    sheet, captions = mosaic(mark)
    words = [
        {
            "x": x,
            "y": y,
            "text": _said(word, 16),
            "showarrow": False,
            "yanchor": "top",
            "font": {"size": 11, "color": "@muted"},
        }
        for x, y, word in captions
    ]
    upright = {**hidden, "autorange": "reversed", "scaleanchor": "x"}
    aspect = round(sheet.shape[0] / sheet.shape[1], 4)
    return {"xaxis": hidden, "yaxis": upright, "annotations": words, "meta": {"aspect": aspect}}


def _hover(figure: Figure, mark: Mark) -> str:
    lines = [_field(figure.x, "x"), _field(figure.y, "y")]
    if mark.error is not None:
        lines[-1] += " ± %{error_y.array:.2~g}" if figure.y.scale != "category" else ""
    title = f"<b>{_said(mark.label, 40)}</b><br>" if mark.label else ""
    return f"{title}{'<br>'.join(lines)}<extra></extra>"


def _field(axis: Axis, letter: str) -> str:
    shown = letter if axis.scale == "category" else f"{letter}:.4~g"
    return f"{_said(axis.label) or letter} %{{{shown}}}"


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


def _plain(values: Any) -> Any:
    """Nested lists with None for gaps and at most nine digits: what a screen can show, at half the bytes."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, list):
        return [_plain(value) for value in values]
    if isinstance(values, str):
        return escape(values)
    return float(f"{values:.9g}") if math.isfinite(values) else None


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{style.BAND_OPACITY})"
