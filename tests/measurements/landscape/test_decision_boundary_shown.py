"""What a map says in words, and which marks it has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.measurements.contract import measured
from tests.numerics.solutions import binary, mlp
from vallis.core.types import Array, Estimate, Result
from vallis.measurements.landscape._decision_boundary_shown import INPUTS, figures, gallery, reading
from vallis.measurements.landscape.decision_boundary import DecisionBoundary


def result(classes: list[list[float]], regions: int) -> Result:
    coords = {INPUTS[0]: np.array([0.0, 1.0]), INPUTS[1]: np.array([0.0, 2.0])}
    values: dict[str, Estimate | Array] = {
        "classes": Array(data=np.array(classes), dims=INPUTS, coords=coords),
        "probability_margins": Array(data=np.full((2, 2), 0.5), dims=INPUTS, coords=coords),
        "examples": Array(data=np.array([[0, 0, 0, 1], [1, 1, 1, 0.0]]), dims=("example", "column")),
        "boundary_length": Estimate(value=1.5, unit="input", method="given"),
        "num_regions": Estimate(value=regions, unit="regions", method="given"),
    }
    return Result(values=values)


def test_the_words() -> None:
    said = reading(result([[0, 1], [0, 1]], 2))
    assert "2 regions with a boundary of 1.50" in said and "0.75 times its side" in said
    assert "1 of the 2 examples drawn are answered wrongly" in said
    assert "all of the map is answered alike" in reading(result([[0, 0], [0, 0]], 1))


def test_two_classes_are_one_signed_picture_and_more_are_two() -> None:
    (one,) = figures(result([[0, 1], [0, 1]], 2))
    assert one.marks[-1].z.tolist() == [[-0.5, 0.5], [-0.5, 0.5]]
    # Class 1 keeps its place among the colours, which is that of the ground, although no example of it is right.
    assert [mark.label for mark in one.marks[:-1]] == ["class 0", "class 1", "answered wrongly"]
    three = figures(measured(DecisionBoundary(num_points=9), mlp()))
    assert [figure.name for figure in three] == ["decision_boundary", "answer_margins"]
    assert all(figure.same_scale for figure in three)
    assert three[0].z.scale == "category"
    assert len(figures(measured(DecisionBoundary(num_points=9), binary()))) == 1


def test_a_gallery_shows_one_thing_of_all_its_maps() -> None:
    """Of maps with two and with three classes all show classes, none its signed probability."""
    figure = gallery({"two": result([[0, 1], [0, 1]], 2), "three": result([[0, 2], [1, 1]], 3)})
    sheet = figure.marks[-1].z
    assert sheet[:, :2].tolist() == [[0, 1], [0, 1]] and sheet[:, -2:].tolist() == [[0, 2], [1, 1]]
    assert [mark.label for mark in figure.marks[:3]] == ["class 0", "class 1", "class 2"]


def test_many_maps_stand_in_rows_each_with_its_own_examples() -> None:
    maps = {f"map {place}": result([[place, 0], [0, 2]], 2) for place in range(5)}
    figure = gallery(maps)
    ground = figure.marks[-1]
    assert ground.z.shape == (5, 8)  # two rows and three columns of 2 x 2, a line between them
    assert ground.z[3, 0::3].tolist() == [0, 1, 2]
    assert ground.z[0, 0::3].tolist()[:2] == [3, 4]
    assert np.isnan(ground.z[:2, 6:]).all() and np.isnan(ground.z[2]).all() and np.isnan(ground.z[:, 2]).all()
    assert "row by row: map 0, map 1, map 2, map 3, map 4" in figure.caption
    # The example at (0, 0) of every map stands in its lower left corner.
    corners = {
        (float(x), float(y))
        for mark in figure.marks[:-1]
        if mark.label == "class 0"
        for x, y in zip(mark.x, mark.y, strict=True)
    }
    places = [(0, 3), (3, 3), (6, 3), (0, 0), (3, 0)]
    assert corners == {(float(ground.x[column]), float(ground.y[row])) for column, row in places}
    np.testing.assert_allclose(np.diff(ground.y), 1.0)
    np.testing.assert_allclose(np.diff(ground.x), 2.0)


def test_numbers_on_the_axes_of_a_gallery_are_coordinates_in_every_map() -> None:
    """Beyond the first map they were its coordinates and the widths of all maps before."""
    first, other = result([[0, 1], [0, 2]], 2), result([[0, 1], [0, 2]], 2)
    coords = {INPUTS[0]: np.array([0.0, 1.0]), INPUTS[1]: np.array([-20.0, 20.0])}
    classes = replace(other.array("classes"), coords=coords)
    figure = gallery({"one": first, "other": replace(other, values={**other.values, "classes": classes})})
    ground = figure.marks[-1]
    words = dict(figure.x.ticks)
    assert [words[place] for place in sorted(words)] == ["0", "1", "2", "\N{MINUS SIGN}20", "0", "20"]
    places = sorted(words)
    assert places[0] == ground.x[0] and places[2] == ground.x[1]
    assert places[3] == ground.x[3] and places[5] == ground.x[4]
    assert [word for _, word in figure.y.ticks] == ["0", "0.5", "1"]
    rows = gallery({f"map {place}": first for place in range(5)})
    assert [word for _, word in sorted(rows.y.ticks)] == 2 * ["0", "0.5", "1"]
    assert [word for _, word in sorted(rows.x.ticks)] == 3 * ["0", "1", "2"]
