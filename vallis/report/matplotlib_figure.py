"""Draws a figure by matplotlib, for papers: the same style as on the page, the same bytes for the same data."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vallis.core.errors import UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.report import prose, style
from vallis.report.clean import clean, colour_places
from vallis.report.geometry import (
    bar_gap,
    categories,
    colour_range,
    decades,
    heights_together,
    mosaic,
    panels,
    places_of,
    words_along,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_DASHES: dict[str, Any] = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_MARKERS = "osD^"
_SIZE = (5.2, 3.4)  # inches: a figure of one and a half columns
_LETTERS = 64  # that fit side by side under it
# As many letters of a title as stand above a figure in one line.
_TITLE = 58
# No clock in the file: the same figure gives the same bytes.
_METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def render(figure: Figure, suffix: str) -> bytes:
    """The figure as the bytes of a ``pdf``, ``svg`` or ``png`` file.

    Raises:
        UsageError: matplotlib is not installed.
        ValueError: a mark's arrays do not fit together.
    """
    matplotlib = _matplotlib()
    data = io.BytesIO()
    with matplotlib.rc_context(_settings()), warnings.catch_warnings():
        # A character that no installed font has is drawn as a box; the figure is still worth having.
        warnings.filterwarnings("ignore", message=".*Glyph.*missing from")
        draw(figure).savefig(data, format=suffix, dpi=200, metadata=_METADATA[suffix])
    return data.getvalue()


def draw(figure: Figure) -> Drawing:
    """The figure as a `matplotlib.figure.Figure`, bound to no window and to no pyplot state.

    Raises:
        UsageError: matplotlib is not installed.
        ValueError: a mark's arrays do not fit together.
    """
    _matplotlib()
    from matplotlib.figure import Figure as Drawing

    figure = clean(figure)
    if panels(figure):
        return _side_by_side(figure)
    drawing = Drawing(figsize=_SIZE, layout="constrained", facecolor="white")
    deep = any(mark.kind == "surface" for mark in figure.marks)
    axes: Any = drawing.add_subplot(projection="3d" if deep else None)
    for mark, place in zip(figure.marks, colour_places(figure), strict=True):
        _DRAWN[mark.kind](drawing, axes, figure, mark, place)
    if deep:
        axes.set_box_aspect(None, zoom=0.8)  # the layout does not know of the labels of three axes: room for them
    if any(mark.kind == "images" for mark in figure.marks):
        axes.set_axis_off()
    else:
        _dress(axes, figure, deep)
        if figure.same_scale:
            axes.set_aspect("equal")
    axes.set_title(_lines(figure.title, _TITLE), loc="left", fontsize=10.5, color=style.LIGHT.ink, pad=10)
    _legend(axes, figure)
    return drawing


def _side_by_side(figure: Figure) -> Drawing:
    """Axes for each grid, on one scale of heights, each below its label."""
    from matplotlib.figure import Figure as Drawing

    held = panels(figure)
    deep = held[0].kind == "surface"
    drawing = Drawing(figsize=(_SIZE[0] * 0.8 * len(held), _SIZE[1]), layout="constrained", facecolor="white")
    every: Any = drawing.subplots(1, len(held), sharey=not deep, subplot_kw={"projection": "3d" if deep else None})
    for axes, mark in zip(every, held, strict=True):
        if deep:
            _surface(drawing, axes, figure, mark, 0)
            _deep_beside(axes, heights_together(figure))
        else:
            shown = _mesh(axes, figure, mark)
        _dress(axes, figure, deep)
        axes.set_title(_text(mark.label, 40), fontsize=9.5, color=style.LIGHT.ink)
    if not deep:
        _colour_bar(drawing, list(every), figure, shown, categories(figure, held[0]))
        for axes in every[1:]:
            axes.set_ylabel("")
    drawing.suptitle(_text(figure.title), x=0.02, ha="left", fontsize=10.5, color=style.LIGHT.ink)
    return drawing


def _deep_beside(axes: Any, heights: Any) -> None:
    """What boxes beside each other need: one scale of heights, and room for their labels."""
    if heights.size and heights.min() < heights.max():
        axes.set_zlim(float(heights.min()), float(heights.max()))
    axes.set_box_aspect(None, zoom=0.72)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.label.set_size(7.5)
        axis.set_tick_params(labelsize=7)
        axis.set_major_locator(_ticker().MaxNLocator(nbins=4))


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError(
            "figures for papers require matplotlib, which is not installed: pip install 'vallis[plot]'"
        ) from error
    return matplotlib


def _settings() -> dict[str, Any]:
    from matplotlib import font_manager

    present = set(font_manager.get_font_names())
    fonts = [font for font in style.SANS if font in present]
    theme = style.LIGHT
    return {
        "font.family": [*fonts, "DejaVu Sans"],
        "font.size": 9,
        "text.usetex": False,
        "axes.edgecolor": theme.rule,
        "axes.labelcolor": theme.muted,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.rule,
        "grid.linewidth": 0.6,
        "xtick.color": theme.rule,
        "ytick.color": theme.rule,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "axes.unicode_minus": True,
        "pdf.fonttype": 42,  # letters stay letters, which journals ask for
        "svg.hashsalt": "vallis",
    }


def _text(text: str, most: int = 72) -> str:
    # A dollar would start mathematics, and what no parser of it accepts would raise.
    return prose.label(text, most).replace("$", r"\$")


def _lines(text: str, width: int = 44) -> str:
    return "\n".join(line.replace("$", r"\$") for line in prose.lines(text, width))


def _colour(place: int) -> tuple[str, str]:
    colour, dash = style.series_style(place)
    return style.LIGHT.series[colour], dash


def _line(drawing: Drawing, axes: Axes, figure: Figure, mark: Mark, place: int) -> None:
    colour, dash = _colour(place)
    axes.plot(mark.x, mark.y, color=colour, linestyle=_DASHES[dash], linewidth=style.LINE_WIDTH * 0.8)
    _error_bars(axes, mark, colour)


def _scatter(drawing: Drawing, axes: Axes, figure: Figure, mark: Mark, place: int) -> None:
    colour, _ = _colour(place)
    shape = _MARKERS[(place // len(style.LIGHT.series)) % len(_MARKERS)]
    size = style.MARKER_SIZE * 0.65
    if mark.z is not None:
        norm, scale = _norm_and_map(mark.z, False)
        edge: Any = {"linewidths": 0.3, "edgecolors": style.LIGHT.muted}
        shown = axes.scatter(mark.x, mark.y, c=mark.z, norm=norm, cmap=scale, s=size**2, marker=shape, **edge)
        _colour_bar(drawing, axes, figure, shown)
        return
    rim: Any = {"alpha": style.MARKER_OPACITY, "markeredgewidth": 0}
    if any(other.kind == "heatmap" for other in figure.marks):  # on a coloured ground a rim keeps points apart from it
        rim = {"markeredgewidth": 0.6, "markeredgecolor": "white"}
    axes.plot(mark.x, mark.y, shape, color=colour, markersize=size, **rim)
    _error_bars(axes, mark, colour)


def _error_bars(axes: Axes, mark: Mark, colour: str) -> None:
    if mark.error is not None:
        axes.errorbar(mark.x, mark.y, yerr=mark.error, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2)


def _bar(drawing: Drawing, axes: Axes, figure: Figure, mark: Mark, place: int) -> None:
    colour, _ = _colour(place)
    groups = [m for m in figure.marks if m.kind == "bar"]
    number = next(i for i, other in enumerate(groups) if other is mark)
    lying = figure.y.scale == "category"
    along, lengths = (mark.y, mark.x) if lying else (mark.x, mark.y)
    words = words_along(figure, "y" if lying else "x")
    places = np.array([words.index(word) for word in along], dtype=float) if words else np.asarray(along)
    step = float(np.diff(np.unique(places)).min()) if len(np.unique(places)) > 1 else 1.0
    width = (1 - bar_gap(figure)) * step / len(groups)
    places = places + (number - (len(groups) - 1) / 2) * width
    bars = {"ecolor": style.LIGHT.ink, "elinewidth": 0.9, "capsize": 2}
    error = {} if mark.error is None else {"xerr" if lying else "yerr": mark.error, "error_kw": bars}
    (axes.barh if lying else axes.bar)(places, lengths, width, color=colour, **error)


def _band(drawing: Drawing, axes: Axes, figure: Figure, mark: Mark, place: int) -> None:
    colour, _ = _colour(place)
    axes.fill_between(mark.x, mark.low, mark.high, color=colour, alpha=style.BAND_OPACITY, linewidth=0)


def _norm_and_map(values: Any, logarithmic: bool) -> tuple[Any, Any]:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

    lowest, highest, colours = colour_range(np.log10(values) if logarithmic else values, logarithmic)
    scale = LinearSegmentedColormap.from_list("vallis", style.stops(colours))
    if logarithmic:
        return LogNorm(10**lowest, 10 ** (highest if highest > lowest else lowest + 1)), scale
    return Normalize(lowest, highest if highest > lowest else lowest + 1), scale


def _heatmap(drawing: Drawing, axes: Axes, figure: Figure, mark: Mark, place: int) -> None:
    _colour_bar(drawing, axes, figure, _mesh(axes, figure, mark), categories(figure, mark))


def _mesh(axes: Axes, figure: Figure, mark: Mark) -> Any:
    """The squares of a heatmap, coloured on the scale of all of the figure."""
    known, logarithmic = categories(figure, mark), figure.z is not None and figure.z.scale == "log"
    heights = heights_together(figure)
    norm, scale = _areas(known) if known else _norm_and_map(10**heights if logarithmic else heights, logarithmic)
    values = places_of(mark.z, known) if known else mark.z
    x, y = (np.arange(len(v)) if isinstance(v, list) else v for v in (mark.x, mark.y))
    axes.grid(False)
    return axes.pcolormesh(
        x, y, np.ma.masked_invalid(values), norm=norm, cmap=scale, shading="nearest", rasterized=True
    )


def _areas(known: list[float]) -> tuple[Any, Any]:
    """Each class in its colour, as far as the paper shows through."""
    from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb

    colours = [to_rgb(style.LIGHT.series[place]) for place in range(len(known))]
    pale = [tuple(1 - style.AREA_OPACITY * (1 - part) for part in colour) for colour in colours]
    return BoundaryNorm(np.arange(len(known) + 1) - 0.5, len(known)), ListedColormap(pale)


def _colour_bar(drawing: Drawing, axes: Any, figure: Figure, shown: Any, known: Sequence[float] = ()) -> None:
    bar = drawing.colorbar(shown, ax=axes, pad=0.02)
    if known:
        bar.set_ticks(range(len(known)), labels=[f"{value:g}" for value in known])
    bar.outline.set_visible(False)
    bar.set_label(_lines(figure.z.label if figure.z is not None else ""))


def _surface(drawing: Drawing, axes: Any, figure: Figure, mark: Mark, place: int) -> None:
    logarithmic = figure.z is not None and figure.z.scale == "log"
    known = heights_together(figure)
    norm, scale = _norm_and_map(10**known if logarithmic else known, logarithmic)
    height = np.log10(mark.z) if logarithmic else mark.z
    xx, yy = np.meshgrid(*(np.arange(len(v)) if isinstance(v, list) else v for v in (mark.x, mark.y)))
    colours = scale(norm(np.ma.masked_invalid(mark.z)))
    light = {"linewidth": 0.15, "edgecolor": (1, 1, 1, 0.35), "antialiased": True, "shade": False}
    axes.plot_surface(xx, yy, height, facecolors=colours, rcount=80, ccount=80, **light)


def _images(drawing: Drawing, axes: Axes, figure: Figure, mark: Mark, place: int) -> None:
    sheet, captions = mosaic(mark)
    lowest, highest, _ = colour_range(mark.z)
    axes.imshow(np.ma.masked_invalid(sheet), cmap="gray", vmin=lowest, vmax=highest, interpolation="nearest")
    for x, y, word in captions:
        axes.text(x, y, _text(word, 16), ha="center", va="top", fontsize=7, color=style.LIGHT.muted)


_DRAWN = {
    "line": _line,
    "scatter": _scatter,
    "bar": _bar,
    "band": _band,
    "heatmap": _heatmap,
    "surface": _surface,
    "images": _images,
}


def _dress(axes: Any, figure: Figure, deep: bool) -> None:
    for letter in "xyz" if deep else "xy":
        axis: Axis = getattr(figure, letter) or Axis(label="")
        getattr(axes, f"set_{letter}label")(_lines(axis.label))
        if axis.scale == "log" and not (deep and letter == "z"):
            getattr(axes, f"set_{letter}scale")("log")
            if decades(figure, letter) <= 3:
                _plain_ticks(getattr(axes, f"{letter}axis"))
        if axis.ticks:
            getattr(axes, f"set_{letter}ticks")([place for place, _ in axis.ticks], [word for _, word in axis.ticks])
        words = words_along(figure, letter)
        if words and axis.scale == "category":
            slant = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
            crowded = letter == "x" and sum(len(word) + 2 for word in words) > _LETTERS
            labels = [_text(word, 28) for word in words]
            getattr(axes, f"set_{letter}ticks")(range(len(words)), labels, **(slant if crowded else {}))
            axes.grid(False, axis=letter)
    if figure.y.scale == "category":
        axes.invert_yaxis()
    if deep:
        _dress_deep(axes, figure)


def _plain_ticks(axis: Any) -> None:
    # 50, 100, 200 rather than powers of ten with a factor before them, as on the page.
    axis.set_major_locator(_ticker().LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(_ticker().FuncFormatter(lambda number, _: f"{number:g}"))
    axis.set_minor_formatter(_ticker().NullFormatter())


def _dress_deep(axes: Any, figure: Figure) -> None:
    axes.view_init(elev=28, azim=-52)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
    if figure.z is not None and figure.z.scale == "log":
        axes.zaxis.set_major_locator(_ticker().MaxNLocator(integer=True, nbins=5))
        axes.zaxis.set_major_formatter(_ticker().FuncFormatter(lambda power, _: f"$10^{{{power:.0f}}}$"))


def _ticker() -> Any:
    from matplotlib import ticker

    return ticker


def _legend(axes: Any, figure: Figure) -> None:
    """A legend by hand: of each label once, and no label is taken for a command (matplotlib hides "_name")."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: dict[str, Any] = {}
    for mark, place in zip(figure.marks, colour_places(figure), strict=True):
        if not mark.label or mark.kind in ("heatmap", "surface", "images"):
            continue
        colour, dash = _colour(place)
        if mark.kind == "line":
            handles[mark.label] = Line2D([], [], color=colour, linestyle=_DASHES[dash])
        elif mark.kind == "scatter" and not isinstance(handles.get(mark.label), Line2D):
            handles[mark.label] = Line2D([], [], color=colour, linestyle="", marker=_MARKERS[0], markersize=4)
        else:
            handles.setdefault(mark.label, Patch(color=colour, alpha=style.BAND_OPACITY if mark.kind == "band" else 1))
    if handles:
        labels = [_text(label if not label.startswith("_") else f" {label}", 40) for label in handles]
        look: dict[str, Any] = {"frameon": False, "fontsize": 8, "labelcolor": style.LIGHT.ink}
        if any(mark.kind == "heatmap" for mark in figure.marks):  # no place on it is free
            axes.figure.legend(list(handles.values()), labels, loc="outside lower center", ncols=4, **look)
        else:
            axes.legend(list(handles.values()), labels, **look)
