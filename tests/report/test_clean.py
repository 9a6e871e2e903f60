from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vallis.core.figures import Axis, Figure, Mark
from vallis.report.clean import clean, coerced, colour_places, floats

NAN = float("nan")


def figure(*marks: Mark, x: str = "linear", y: str = "linear", z: str = "linear", caption: str = "") -> Figure:
    axes: dict[str, Any] = {"x": Axis(label="x", scale=x), "y": Axis(label="y", scale=y), "z": Axis(label="z", scale=z)}  # type: ignore[arg-type]
    return Figure(name="f", title="F", marks=marks, caption=caption, **axes)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0, None],
        (1, 2, NAN),
        np.array([1, 2, np.nan], dtype=np.float32),
        np.ma.masked_array([1, 2, 3], mask=[0, 0, 1]),
        torch.tensor([1.0, 2.0, NAN], requires_grad=True),
        torch.tensor([1.0, 2.0, NAN], dtype=torch.bfloat16),
    ],
)
def test_every_kind_of_array_is_accepted(values: Any) -> None:
    (mark,) = coerced(figure(Mark(kind="line", y=values))).marks
    np.testing.assert_array_equal(mark.y, [1.0, 2.0, NAN])
    np.testing.assert_array_equal(mark.x, [0.0, 1.0, 2.0])


def test_the_callers_array_is_not_borrowed() -> None:
    mine = np.zeros(3)
    floats(mine)[0] = 1
    assert mine[0] == 0


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        (Mark(kind="line", x=[1, 2], y=[1, 2, 3]), "3 coordinates"),
        (Mark(kind="line"), "requires y, none came"),
        (Mark(kind="bar", y=[[1, 2]]), "one dimension"),
        (Mark(kind="band", low=[1], high=[1, 2]), "one length"),
        (Mark(kind="heatmap", z=[1, 2]), "two dimensions"),
        (Mark(kind="heatmap", z=np.zeros((2, 3)), x=[1, 2]), "3 coordinates"),
        (Mark(kind="surface", z=np.zeros((2, 3)), y=[1, 2, 3]), "2 coordinates"),
        (Mark(kind="images", z=np.zeros(3)), "height, width"),
        (Mark(kind="images", z=np.zeros((3, 2, 2)), x=["a"]), "a word in x for each image"),
    ],
)
def test_arrays_that_do_not_fit_are_one_sentence(mark: Mark, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        coerced(figure(mark))


def test_words_along_a_category_axis() -> None:
    (mark,) = coerced(figure(Mark(kind="bar", x=np.array(["a", "b"]), y=[1, 2]), x="category")).marks
    assert mark.x == ["a", "b"]
    (mark,) = coerced(figure(Mark(kind="bar", y=[1, 2]), x="category")).marks
    assert mark.x == ["0", "1"]


def test_bars_lie_where_the_words_are_along_y() -> None:
    (mark,) = coerced(figure(Mark(kind="bar", x=[1, 2], y=["a", "b"], error=0.5), y="category")).marks
    np.testing.assert_array_equal(mark.x, [1, 2])
    np.testing.assert_array_equal(mark.error, [0.5, 0.5])
    assert mark.y == ["a", "b"]


def test_what_is_not_finite_becomes_a_gap_and_is_said() -> None:
    cleaned = clean(figure(Mark(kind="line", y=[1, np.inf, NAN, -np.inf]), caption="Mine."))
    np.testing.assert_array_equal(cleaned.marks[0].y, [1, NAN, NAN, NAN])
    assert cleaned.caption == "Mine. 3 values are not finite and left as gaps."


def test_paper_between_maps_on_a_sheet_is_no_gap() -> None:
    """Three maps in two rows: rows and columns of nothing part them, and the place of a fourth is empty."""
    sheet = np.full((5, 7), NAN)
    sheet[3:, :3] = sheet[3:, 4:] = sheet[:2, :3] = 1.0
    assert not clean(figure(Mark(kind="heatmap", z=sheet))).caption
    sheet[0, 1] = np.inf  # within a map
    assert clean(figure(Mark(kind="heatmap", z=sheet))).caption == "1 value is not finite and left as gaps."
    assert "35 values are" in clean(figure(Mark(kind="heatmap", z=np.full((5, 7), NAN)))).caption


def test_what_is_not_positive_has_no_place_on_a_logarithmic_axis() -> None:
    cleaned = clean(figure(Mark(kind="scatter", x=[0, 1, 2], y=[1, -1, 2]), x="log", y="log"))
    np.testing.assert_array_equal(cleaned.marks[0].x, [NAN, 1, 2])
    np.testing.assert_array_equal(cleaned.marks[0].y, [1, NAN, 2])
    assert "2 values at or below zero have no place on the logarithmic axis and are not shown." in cleaned.caption


def test_a_band_that_crosses_zero_is_cut_and_says_so() -> None:
    band = Mark(kind="band", low=[0.5, -0.1, -2], high=[2, 1, -1])
    cleaned = clean(figure(band, y="log"))
    np.testing.assert_array_equal(cleaned.marks[0].low, [0.5, 0.5, NAN])
    np.testing.assert_array_equal(cleaned.marks[0].high, [2, 1, NAN])
    assert "1 band edge falls to zero or below" in cleaned.caption
    assert "1 value at or below zero has no place" in cleaned.caption


def test_a_grid_loses_the_column_that_a_logarithmic_axis_cannot_show() -> None:
    cleaned = clean(figure(Mark(kind="heatmap", x=[0, 1, 2], y=[1, 2], z=np.arange(6).reshape(2, 3)), x="log", z="log"))
    (mark,) = cleaned.marks
    assert mark.x.tolist() == [1, 2]
    np.testing.assert_array_equal(mark.z, [[1, 2], [4, 5]])


@pytest.mark.parametrize("marks", [(), (Mark(kind="line", y=[]),), (Mark(kind="line", y=[NAN]),)])
def test_an_empty_figure_says_so(marks: tuple[Mark, ...]) -> None:
    assert clean(figure(*marks)).caption.endswith("There is nothing finite to draw.")


def test_cleaning_leaves_the_figure_alone() -> None:
    mark = Mark(kind="line", y=np.array([1.0, -1.0]))
    clean(figure(mark, y="log"))
    assert mark.y.tolist() == [1.0, -1.0]


def test_equal_labels_share_a_colour_and_a_band_joins_its_line() -> None:
    line, band = Mark(kind="line", y=[1]), Mark(kind="band", low=[0], high=[1])
    a, b = replace(line, label="a"), replace(line, label="b")
    assert colour_places(figure(a, b, a)) == [0, 1, 0]
    assert colour_places(figure(replace(band, label="a"), a, replace(band, label="b"), b)) == [0, 0, 1, 1]
    assert colour_places(figure(band, line, band, line)) == [0, 0, 1, 1]
    assert colour_places(figure(band, a, band, b)) == [0, 0, 1, 1]
    assert colour_places(figure(line, band)) == [0, 0]


def test_numbers_that_colour_points_must_be_one_a_point() -> None:
    cleaned = clean(figure(Mark(kind="scatter", x=[0, 1], y=[1, 2], z=[3, 4])))
    assert cleaned.marks[0].z.tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match="2 numbers for its colours"):
        clean(figure(Mark(kind="scatter", x=[0, 1], y=[1, 2], z=[3, 4, 5])))


def test_a_gap_between_maps_is_no_loss() -> None:
    sheet = np.ones((3, 5))
    sheet[:, 2] = np.nan
    axes = {letter: Axis(label=letter) for letter in "xyz"}

    def caption(z: np.ndarray) -> str:
        mark = Mark(kind="heatmap", x=np.arange(5.0), y=np.arange(3.0), z=z)
        return clean(Figure(name="f", title="f", marks=(mark,), **axes)).caption

    assert caption(sheet) == ""
    sheet[1, 0] = np.inf
    assert caption(sheet).startswith("1 value is not finite")
