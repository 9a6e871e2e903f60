from dataclasses import replace

import numpy as np
import pytest

from tests.report import toy
from vallis.core.figures import Axis, Figure, Mark
from vallis.report.clean import clean
from vallis.report.plotly_axes import escape, layout_of, said
from vallis.report.plotly_figure import plotly_figure


def test_escaping_is_undone_by_the_entities_that_plotly_decodes() -> None:
    assert escape("a<b>&%{y}") == "a&lt;b&gt;&amp;%&#123;y}"


def test_a_label_that_would_push_the_figure_aside_is_cut() -> None:
    spec = plotly_figure(Figure(name="f", title="F", x=Axis(label="w^2 " * 60), y=Axis(label="y"), marks=()))
    title = spec["layout"]["xaxis"]["title"]["text"]
    assert title.startswith("w² w²")
    assert title.count("<br>") == 1
    assert len(title) <= 92


def test_labels_are_raised_cut_and_escaped_in_this_order() -> None:
    assert said("a^2 & <b>" + "x" * 100, 12) == "a² &amp; &lt;b&gt;xxx…"


@pytest.mark.parametrize(("span", "keys"), [(1.5, {"tickformat"}), (6.0, set())])
def test_a_logarithmic_axis_has_ticks_of_one_size(span: float, keys: set[str]) -> None:
    axis = Axis(label="y", scale="log")
    mark = Mark(kind="line", y=np.logspace(0, span, 9))
    layout = layout_of(clean(Figure(name="f", title="F", x=Axis(label="x"), y=axis, marks=(mark,))), False)
    assert layout["yaxis"]["nticks"] <= 5
    assert {"tickformat"} & set(layout["yaxis"]) == keys


@pytest.mark.parametrize(("far", "written"), [(9.0, None), (13_450.0, ",~f"), (2e7, None)])
def test_thousands_are_written_out(far: float, written: str | None) -> None:
    mark = Mark(kind="line", y=np.array([-far, -far / 2, np.nan]))
    figure = Figure(name="f", title="F", x=Axis(label="x"), y=Axis(label="y"), marks=(mark,))
    assert layout_of(clean(figure), False)["yaxis"].get("tickformat") == written


def test_words_keep_their_place_and_show_cut() -> None:
    layout = layout_of(clean(toy.hostile_figure()), True)
    assert layout["xaxis"]["tickvals"] == [escape(toy.HOSTILE), "b"]
    assert all(len(text) < 80 for text in layout["xaxis"]["ticktext"])


def test_a_surface_has_a_scene_and_no_flat_axes() -> None:
    layout = layout_of(clean(toy.surface("log")), False)
    assert layout["scene"]["zaxis"]["type"] == "log"
    assert "xaxis" not in layout


def test_the_first_word_is_on_top() -> None:
    assert layout_of(clean(toy.lying_bars()), False)["yaxis"]["autorange"] == "reversed"


def test_a_circle_is_a_circle_where_both_axes_are_lengths_in_one_space() -> None:
    flat = replace(toy.heatmap(), same_scale=True)
    layout = layout_of(clean(flat), False)
    assert layout["yaxis"]["scaleanchor"] == "x"
    assert layout["meta"]["aspect"] == pytest.approx(0.9)
    assert "scaleanchor" not in layout_of(clean(toy.heatmap()), False)["yaxis"]


def test_words_at_places_stand_for_the_numbers_along_an_axis() -> None:
    ticked = Axis(label="x", ticks=((0.0, "0"), (3.0, "<1")))
    mark = Mark(kind="heatmap", x=[0, 3], y=[0, 1], z=np.ones((2, 2)))
    figure = Figure(name="f", title="t", x=ticked, y=Axis(label="y"), marks=(mark,))
    spec = plotly_figure(figure)
    assert spec["layout"]["xaxis"]["tickvals"] == [0.0, 3.0]
    assert spec["layout"]["xaxis"]["ticktext"] == ["0", "&lt;1"]
    assert spec["data"][0]["hovertemplate"] == "y %{y:.4~g}<br>value %{z:.4~g}<extra></extra>"
