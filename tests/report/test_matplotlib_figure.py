import io
import sys
from dataclasses import replace

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb

from tests.report import toy
from vallis.core.errors import UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.report import style
from vallis.report.matplotlib_figure import draw, render


@pytest.mark.parametrize("figure", [*toy.figures(), toy.hostile_figure()], ids=lambda figure: figure.name[:20])
def test_every_kind_is_drawn(figure: Figure) -> None:
    image = matplotlib.image.imread(io.BytesIO(render(figure, "png")))
    assert image.shape[0] > 500
    assert len(np.unique(image.reshape(-1, image.shape[-1]), axis=0)) > 20, "the picture is blank"


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_the_same_figure_gives_the_same_bytes(suffix: str) -> None:
    assert render(toy.lines(), suffix) == render(toy.lines(), suffix)


def test_nothing_global_is_touched() -> None:
    before = dict(matplotlib.rcParams)
    render(toy.bars(), "png")
    changed = [key for key, value in matplotlib.rcParams.items() if before[key] != value]
    assert changed in ([], ["backend"])  # asking for the backend is what settles it
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("text", ["$\\frac{", "$", "100 % of $x$ and $y", "_hidden", "字 😀 no font has this", ""])
def test_any_label_is_shown_as_it_is(text: str) -> None:
    marks = (Mark(kind="line", y=[1.0, 2.0], label=text or "a"), Mark(kind="bar", y=[1.0, 2.0], label="b"))
    figure = Figure(name="f", title=text, x=Axis(label=text), y=Axis(label=text), marks=marks)
    render(figure, "svg")
    legend = draw(figure).axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 2


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("kind", ["line", "scatter", "bar", "band", "heatmap", "surface", "images"])
def test_gaps_and_nothing_at_all_are_drawn_without_a_warning(kind: str, scale: str) -> None:
    for fill in (np.nan, np.inf, -1.0, 1.0):
        row, grid = np.array([1.0, fill, 2.0]), np.full((3, 3), fill)
        z = row if kind == "scatter" else grid
        mark = Mark(kind=kind, y=None if kind in ("heatmap", "surface") else row, z=z, low=row - 1, high=row)  # type: ignore[arg-type]
        axis = Axis(label="a", scale=scale)  # type: ignore[arg-type]
        render(Figure(name="f", title="F", x=Axis(label="x"), y=axis, z=axis, marks=(mark,)), "svg")
    render(Figure(name="f", title="F", x=Axis(label="x"), y=Axis(label="y"), marks=()), "svg")


def test_classes_have_the_colours_of_their_marks() -> None:
    grid = Mark(kind="heatmap", z=np.array([[3.0, 7.0], [np.nan, 9.0]]))
    class_axis = Axis(label="class", scale="category")
    axes = {"x": Axis(label="x"), "y": Axis(label="y")}
    drawing = draw(Figure(name="f", title="F", z=class_axis, marks=(grid,), **axes))  # type: ignore[arg-type]
    held, bar = drawing.axes
    (mesh,) = held.collections
    assert [label.get_text() for label in bar.get_yticklabels()] == ["3", "7", "9"]
    for place in range(3):
        pale = np.array(mesh.cmap(mesh.norm(place))[:3])
        assert pale == pytest.approx(1 - style.AREA_OPACITY * (1 - np.array(to_rgb(style.LIGHT.series[place]))))


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'vallis\[plot\]'"):
        render(toy.bars(), "pdf")


def test_surfaces_side_by_side_have_one_scale_and_their_labels() -> None:
    drawing = draw(toy.side_by_side())
    assert [axes.get_title() for axes in drawing.axes] == ["the good one", "the bad one"]
    limits = [axes.get_zlim() for axes in drawing.axes]  # type: ignore[attr-defined]
    assert limits[0] == limits[1]
    assert limits[0][1] >= np.log10(toy.SURFACE.max()) + 1
    flat = draw(toy.side_by_side("heatmap"))
    meshes = [axes.collections[0] for axes in flat.axes[:2]]
    assert meshes[0].norm.vmax == meshes[1].norm.vmax == pytest.approx(10 * toy.SURFACE.max())


def test_a_circle_is_a_circle_where_both_axes_are_lengths_in_one_space() -> None:
    one, other = (draw(replace(toy.heatmap(), same_scale=held)).axes[0] for held in (True, False))
    assert (one.get_aspect(), other.get_aspect()) == (1.0, "auto")


def test_a_long_title_stands_within_the_drawing() -> None:
    title = "Distance of the boundary to the nearest training point as the gap shrinks: circles"
    drawing = draw(Figure(name="f", title=title, x=Axis(label="x"), y=Axis(label="y"), marks=()))
    drawing.canvas.draw()
    (axes,) = drawing.axes
    assert axes.get_title(loc="left").replace("\n", " ") == title
    assert axes.get_tightbbox().x1 <= drawing.bbox.x1


def test_words_at_places_stand_for_the_numbers_along_an_axis() -> None:
    ticked = Axis(label="x", ticks=((0.0, "0"), (3.0, "one")))
    mark = Mark(kind="line", x=[0, 3], y=[0, 1])
    (axes,) = draw(Figure(name="f", title="t", x=ticked, y=Axis(label="y"), marks=(mark,))).axes
    assert [word.get_text() for word in axes.get_xticklabels()] == ["0", "one"]
    assert axes.get_xticks().tolist() == [0.0, 3.0]
