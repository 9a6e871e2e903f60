import numpy as np

from tests.report import toy
from vallis.core.figures import Axis, Figure, Mark
from vallis.report import style
from vallis.report.clean import clean
from vallis.report.geometry import bar_gap, colour_range, decades, legend_marks, mosaic, proportion, words_along


def test_numbers_of_both_signs_are_coloured_around_zero() -> None:
    assert colour_range(np.array([-1.0, 0.5, np.nan])) == (-1.0, 1.0, style.DIVERGING)
    assert colour_range(np.array([-0.01, 1.0])) == (-0.01, 1.0, style.SEQUENTIAL)
    assert colour_range(np.array([-1.0, 0.5]), logarithmic=True) == (-1.0, 0.5, style.SEQUENTIAL)
    assert colour_range(np.array([np.nan])) == (0.0, 1.0, style.SEQUENTIAL)


def test_images_stand_side_by_side_with_gaps_between() -> None:
    images = np.arange(2 * 4 * 4, dtype=float).reshape(2, 4, 4)
    sheet, captions = mosaic(Mark(kind="images", z=images, x=["a", "b"]))
    np.testing.assert_array_equal(sheet[:4, :4], images[0])
    np.testing.assert_array_equal(sheet[:4, 5:9], images[1])
    assert np.isnan(sheet[:, 4]).all()
    assert [word for *_, word in captions] == ["a", "b"]


def test_images_of_any_number_and_shape_fit_on_the_sheet() -> None:
    for shape in ((1, 1, 1), (7, 3, 20), (5, 20, 3), (0, 4, 4), (30, 28, 28)):
        sheet, captions = mosaic(Mark(kind="images", z=np.ones(shape)))
        assert np.nansum(sheet) == np.prod(shape)
        assert captions == []


def test_few_bars_leave_much_room_and_many_little() -> None:
    def bars(count: int) -> Figure:
        axis = Axis(label="")
        return Figure(
            name="f", title="F", x=axis, y=axis, marks=(Mark(kind="bar", x=np.arange(count), y=np.ones(count)),)
        )

    assert [bar_gap(bars(count)) for count in (1, 2, 4, 20)] == [0.7, 0.6, 0.4, 0.25]
    assert bar_gap(toy.bars()) == 0.25


def test_a_label_is_in_the_legend_once_and_a_band_only_for_want_of_better() -> None:
    line, band = Mark(kind="line", label="a"), Mark(kind="band", label="a")
    assert legend_marks((band, line, line, Mark(kind="band", label="b"), Mark(kind="line"))) == {1, 3}
    assert legend_marks((Mark(kind="heatmap", label="a"),)) == set()


def test_decades_and_words_along_an_axis() -> None:
    assert decades(clean(toy.spectrum()), "x") == 1.0
    assert round(decades(clean(toy.spectrum()), "y"), 2) == 1.57
    assert words_along(clean(toy.bars()), "x") == ["true labels", "shuffled pixels", "random labels"]
    assert words_along(clean(toy.bars()), "y") == []


def test_proportions_are_those_of_all_marks_without_gaps() -> None:
    grid = Mark(kind="heatmap", x=np.array([0.0, 4.0]), y=np.array([1.0, 2.0]), z=np.zeros((2, 2)))
    points = Mark(kind="scatter", x=np.array([1.0, np.nan]), y=np.array([3.0, np.nan]))
    figure = Figure(name="f", title="F", x=Axis(label="x"), y=Axis(label="y"), marks=(grid, points))
    assert proportion(figure) == 0.5
