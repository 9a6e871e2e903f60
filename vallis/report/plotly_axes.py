"""The frame of a plotly figure: its axes, legend and margins. Every text is escaped here, for plotly reads markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vallis.core.figures import Axis, Figure, Mark
from vallis.report import prose, style
from vallis.report.clean import Floats
from vallis.report.geometry import bar_gap, decades, heights_together, largest, mosaic, panels, proportion, words_along

Spec = dict[str, Any]


def layout_of(figure: Figure, has_legend: bool) -> Spec:
    """The layout of a cleaned figure, its colours as tokens (see `vallis.report.plotly_figure`)."""
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
        layout |= _scenes(figure)
    elif "images" in kinds:
        layout |= _image_axes(figure)
    elif panels(figure):
        layout |= _side_by_side(figure)
    else:
        for letter in "xy":
            layout[f"{letter}axis"] = _axis(figure, letter, "heatmap" in kinds)
        if figure.same_scale and figure.marks:
            layout["xaxis"]["constrain"] = "domain"
            layout["yaxis"] |= {"constrain": "domain", "scaleanchor": "x"}
            # The height of the page's box: labels stand beside the map, and a legend above it.
            layout["meta"] = {"aspect": round(min(max(0.78 * proportion(figure) + 0.12, 0.25), 0.9), 3)}
        if figure.y.scale == "category":  # the first word on top, as one reads
            layout["yaxis"]["autorange"] = "reversed"
    return layout


def _scenes(figure: Figure) -> Spec:
    """A box for each surface, side by side, on one scale of heights, each below its label."""
    held = panels(figure)
    # Narrow boxes are looked at from farther away.
    far = 1.28 if held else 1.0
    eye = {"x": 1.2 * far, "y": -1.2 * far, "z": 0.8 * far}
    camera = {"eye": eye, "center": {"x": 0, "y": 0, "z": -0.13}}
    shared: Spec = {"camera": camera, "aspectmode": "manual", "aspectratio": {"x": 1, "y": 1, "z": 0.7}}
    if not held:
        return {"scene": shared | {f"{letter}axis": _axis_3d(figure, letter) for letter in "xyz"}}
    found: Spec = {"annotations": _words_above(held)}
    for place, ends in enumerate(_shares(len(held))):
        scene = {f"{letter}axis": _axis_3d(figure, letter) for letter in "xyz"}
        scene["zaxis"] |= {"range": _range(heights_together(figure))}
        found[f"scene{place + 1 if place else ''}"] = shared | scene | {"domain": {"x": ends, "y": [0, 0.95]}}
    return found


def _side_by_side(figure: Figure) -> Spec:
    """Axes for each heatmap, all of one height, each below its label."""
    held = panels(figure)
    found: Spec = {"annotations": _words_above(held), "yaxis": _axis(figure, "y", True) | {"domain": [0, 0.93]}}
    for place, ends in enumerate(_shares(len(held), 0.04)):
        axis = _axis(figure, "x", True) | {"domain": ends, "nticks": 5}
        found[f"xaxis{place + 1 if place else ''}"] = axis | ({"anchor": "y"} if place else {})
    return found


def _shares(count: int, gap: float = 0.0) -> list[list[float]]:
    """The ends of parts of equal width, a gap between them."""
    width = (1 - gap * (count - 1)) / count
    return [[round(place * (width + gap), 4), round(place * (width + gap) + width, 4)] for place in range(count)]


def _words_above(held: Sequence[Mark]) -> list[Spec]:
    """The label of each, above its middle."""
    font = {"size": style.FONT_SIZE, "color": "@ink"}
    where = {"y": 1, "xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "top", "showarrow": False}
    middles = [sum(ends) / 2 for ends in _shares(len(held))]
    return [
        {"text": said(mark.label, 36), "x": x, "font": font, **where} for mark, x in zip(held, middles, strict=True)
    ]


def _range(heights: Floats) -> list[float]:
    """The ends of an axis that holds all of them, with a little room."""
    low, high = (float(heights.min()), float(heights.max())) if heights.size else (0.0, 1.0)
    room = 0.02 * (high - low) or 0.5
    return [low - room, high + room]


def escape(text: str) -> str:
    """The text so that plotly shows it letter by letter: no markup, no entities, no template fields."""
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("%{", "%&#123;")):
        text = text.replace(plain, entity)
    return text


def said(text: str, most: int = 72) -> str:
    """A label as plotly shows it: powers raised, cut to a length, escaped."""
    return escape(prose.label(text, most))


def title_text(axis: Axis) -> str:
    """The label of an axis, in two lines where it is long."""
    return "<br>".join(escape(line) for line in prose.lines(axis.label))


def _axis(figure: Figure, letter: str, filled: bool) -> Spec:
    axis: Axis = getattr(figure, letter)
    font = {"color": "@muted", "size": style.FONT_SIZE}
    spec: Spec = {
        "title": {"text": title_text(axis), "font": font, "standoff": 10},
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
        spec |= _log_ticks(decades(figure, letter))
    elif axis.scale == "linear" and 1e3 <= largest(figure, letter) < 1e6:
        spec["tickformat"] = ",~f"  # 13,450, as in the tables, rather than 1.345 times a power
    if axis.ticks:
        places, texts = zip(*axis.ticks, strict=True)
        spec |= {"tickmode": "array", "tickvals": list(places), "ticktext": [escape(word) for word in texts]}
    return spec | _words(figure, letter)


def _log_ticks(decades: float) -> Spec:
    # Left alone, plotly writes a small 2, 3, 4 ... between powers of ten that are written larger than all else.
    if decades > 3:
        return {"nticks": 5 if decades > 5 else 4, "tickfont": {"color": "@muted", "size": style.FONT_SIZE - 3}}
    return {"nticks": max(3, round(2.5 * decades)), "tickformat": "~g"}


def _words(figure: Figure, letter: str) -> Spec:
    # Ticks of words: what stands at each is the word, cut; its place keeps the whole word.
    words = words_along(figure, letter)
    if not words:
        return {}
    return {"tickmode": "array", "tickvals": [escape(w) for w in words], "ticktext": [said(w, 28) for w in words]}


def _axis_3d(figure: Figure, letter: str) -> Spec:
    axis = getattr(figure, letter) or Axis(label="")
    lines = dict.fromkeys(("gridcolor", "linecolor", "zerolinecolor"), "@rule")
    fonts = {"tickfont": {"color": "@muted", "size": 11}, "exponentformat": "power", "nticks": 5}
    title = {"text": said(axis.label), "font": {"color": "@muted", "size": 12}}
    shared = {"title": title, "type": axis.scale, "showbackground": False, "showspikes": False, **lines, **fonts}
    return shared | (_log_ticks(decades(figure, letter)) if axis.scale == "log" else {})


def _image_axes(figure: Figure) -> Spec:
    hidden: Spec = {"visible": False, "constrain": "domain"}
    mark = next(mark for mark in figure.marks if mark.kind == "images")
    sheet, captions = mosaic(mark)
    words = [
        {
            "x": x,
            "y": y,
            "text": said(word, 16),
            "showarrow": False,
            "yanchor": "top",
            "font": {"size": 11, "color": "@muted"},
        }
        for x, y, word in captions
    ]
    upright = {**hidden, "autorange": "reversed", "scaleanchor": "x"}
    aspect = round(sheet.shape[0] / sheet.shape[1], 4)
    return {"xaxis": hidden, "yaxis": upright, "annotations": words, "meta": {"aspect": aspect}}
