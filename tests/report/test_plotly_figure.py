import json
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from tests.report import toy
from vallis.core.figures import Axis, Figure, Mark
from vallis.report import style
from vallis.report.plotly_figure import plotly_figure, resolve, tokens


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for held in value.values() for text in texts(held)]
    if isinstance(value, list):
        return [text for held in value for text in texts(held)]
    return [value] if isinstance(value, str) else []


def figure(*marks: Mark, y: str = "linear") -> Figure:
    return Figure(name="f", title="F", x=Axis(label="x"), y=Axis(label="y", scale=y), marks=marks)  # type: ignore[arg-type]


@pytest.mark.parametrize("theme", style.THEMES)
@pytest.mark.parametrize("drawn", [*toy.figures(), toy.hostile_figure()], ids=lambda drawn: drawn.name[:20])
def test_plotly_knows_every_property(drawn: Figure, theme: style.ThemeName) -> None:
    spec = plotly_figure(drawn, theme)
    json.dumps(spec, allow_nan=False)
    go.Figure(spec)  # raises on a property or a value that plotly does not know
    assert [text for text in texts(spec) if text.startswith("@")] == []


def test_no_text_of_a_part_is_markup() -> None:
    spec = plotly_figure(toy.hostile_figure())
    found = [text for text in texts(spec) if "pwned" in text]
    assert len(found) > 8
    ours = ("<b>", "</b>", "<br>", "<extra></extra>")
    for text in found:
        for markup in ours:
            text = text.replace(markup, "")
        assert "<" not in text, text
    hover = spec["data"][0]["hovertemplate"]
    assert hover.count("%{") == 3, "x, y and the error bar are fields; the %{x} of the label is not"


def test_tokens_are_resolved_under_colours_only() -> None:
    value = {"text": "@ink", "color": "@ink", "colorscale": [[0, "@ink"]], "tickcolor": "@nothing"}
    assert resolve(value, {"@ink": "black"}) == {
        "text": "@ink",
        "color": "black",
        "colorscale": [[0, "black"]],
        "tickcolor": "@nothing",
    }


def test_both_themes_know_the_same_tokens() -> None:
    assert tokens(style.LIGHT).keys() == tokens(style.DARK).keys()


def test_classes_have_the_colours_of_their_marks() -> None:
    grid = Mark(kind="heatmap", z=np.array([[3.0, 7.0], [np.nan, 9.0]]))
    marks = (*(Mark(kind="scatter", x=[0.0], y=[0.0], label=f"class {c}") for c in (3, 7, 9)), grid)
    spec = plotly_figure(replace(figure(*marks), z=Axis(label="class", scale="category")))
    area = spec["data"][-1]
    assert area["z"] == [[0.0, 1.0], [None, 2.0]] and (area["zmin"], area["zmax"]) == (-0.5, 2.5)
    assert area["colorbar"]["ticktext"] == ["3", "7", "9"]
    for place, marked in enumerate(spec["data"][:3]):
        assert marked["marker"]["color"] == f"@series{place}"
        assert [share for share, colour in area["colorscale"] if colour == f"@area{place}"] == [
            place / 3,
            (place + 1) / 3,
        ]


def test_more_classes_than_colours_are_drawn_as_numbers() -> None:
    grid = Mark(kind="heatmap", z=np.arange(8.0).reshape(2, 4))
    (area,) = plotly_figure(replace(figure(grid), z=Axis(label="class", scale="category")))["data"]
    assert area["z"] == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]


def test_a_gap_is_a_gap() -> None:
    spec = plotly_figure(figure(Mark(kind="line", y=[1.0, np.nan, 3.0])))
    assert spec["data"][0]["y"] == [1.0, None, 3.0]
    assert spec["data"][0]["connectgaps"] is False


def test_a_band_is_one_outline_for_each_run_without_a_gap() -> None:
    low, high = np.array([0.0, 0, np.nan, 0, 0]), np.ones(5)
    (trace,) = plotly_figure(figure(Mark(kind="band", low=low, high=high)))["data"]
    assert trace["x"] == [0, 1, 1, 0, None, 3, 4, 4, 3, None]
    assert trace["y"] == [1, 1, 0, 0, None, 1, 1, 0, 0, None]


def test_a_line_stands_in_the_legend_rather_than_its_band() -> None:
    shown = [
        (trace["name"], trace["mode"], trace.get("fill"))
        for trace in plotly_figure(toy.lines())["data"]
        if trace["showlegend"]
    ]
    assert shown == [("train", "lines", None), ("test", "lines", None)]


def test_logarithmic_heights_are_coloured_by_their_exponent_and_hover_as_they_are() -> None:
    (trace,) = plotly_figure(toy.heatmap("log"))["data"]
    np.testing.assert_allclose(trace["z"], np.log10(toy.SURFACE), rtol=5e-6)
    np.testing.assert_allclose(trace["customdata"], toy.SURFACE, rtol=5e-6)
    assert "%{customdata" in trace["hovertemplate"]


@pytest.mark.parametrize(("offset", "digits"), [(0.0, 6), (1.0, 6), (100.0, 8), (1e5, 9)])
def test_heights_keep_the_digits_that_show(offset: float, digits: int) -> None:
    z = offset + np.random.default_rng(0).random((9, 9))
    (trace,) = plotly_figure(figure(Mark(kind="heatmap", x=np.arange(9), y=np.arange(9), z=z)))["data"]
    np.testing.assert_allclose(trace["z"], z, rtol=0, atol=6e-4 if digits == 9 else 1e-5)
    assert all(value == float(f"{value:.{digits}g}") for row in trace["z"] for value in row)


def test_points_may_be_coloured_by_numbers() -> None:
    drawn = Figure(
        name="f",
        title="F",
        x=Axis(label="x"),
        y=Axis(label="y"),
        z=Axis(label="accuracy"),
        marks=(Mark(kind="scatter", x=[0, 1], y=[2, 3], z=[0.25, np.nan]),),
    )
    spec = plotly_figure(drawn, "light")
    go.Figure(spec)
    (trace,) = spec["data"]
    assert trace["marker"]["color"] == [0.25, 0.25]
    assert trace["y"] == [2.0, None]
    assert trace["marker"]["colorbar"]["title"]["text"] == "accuracy"
    assert "accuracy %{text" in trace["hovertemplate"]


def test_surfaces_side_by_side_have_boxes_that_do_not_overlap_and_one_scale() -> None:
    spec = plotly_figure(toy.side_by_side())
    assert [trace.get("scene", "scene") for trace in spec["data"]] == ["scene", "scene2"]
    one, other = (spec["layout"][name] for name in ("scene", "scene2"))
    assert one["domain"]["x"][1] <= other["domain"]["x"][0]
    exponents = np.log10(toy.SURFACE)
    for scene, trace in zip((one, other), spec["data"], strict=True):
        low, high = scene["zaxis"]["range"]
        assert low < exponents.min() and high > exponents.max() + 1
        assert (trace["cmin"], trace["cmax"]) == pytest.approx((exponents.min(), exponents.max() + 1))
    assert [word["text"] for word in spec["layout"]["annotations"]] == ["the good one", "the bad one"]


def test_heatmaps_side_by_side_have_axes_of_their_own_and_one_bar_of_colours() -> None:
    spec = plotly_figure(toy.side_by_side("heatmap"))
    assert [(trace.get("xaxis", "x"), trace.get("showscale", True)) for trace in spec["data"]] == [
        ("x", True),
        ("x2", False),
    ]
    layout = spec["layout"]
    assert layout["xaxis"]["domain"][1] < layout["xaxis2"]["domain"][0]
    assert spec["data"][0]["zmax"] == spec["data"][1]["zmax"] == pytest.approx(np.log10(toy.SURFACE.max()) + 1)
    assert spec["data"][1]["x"] == spec["data"][0]["x"]


def test_classes_side_by_side_have_the_same_colours() -> None:
    marks = (Mark(kind="heatmap", z=np.array([[3.0, 7.0]])), Mark(kind="heatmap", z=np.array([[7.0, 9.0]])))
    spec = plotly_figure(replace(figure(*marks), z=Axis(label="class", scale="category")))
    assert [trace["z"] for trace in spec["data"]] == [[[0.0, 1.0]], [[1.0, 2.0]]]
