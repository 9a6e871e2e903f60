"""Figures of the circles for which there are rows, and none without."""

from __future__ import annotations

import numpy as np

from tests.studies.circles import circle_rows
from vallis.report.matplotlib_figure import render
from vallis.studies._circles_cells import GAPS
from vallis.studies._circles_figures import circles_figures
from vallis.studies._visualizations_rules import GAP


def test_each_curve_has_its_networks_and_their_median() -> None:
    figures = {figure.name: figure for figure in circles_figures(circle_rows())}
    assert list(figures) == ["accuracy_by_gap", "distance_by_gap", "sharpness_by_gap"]
    line, networks = figures["distance_by_gap"].marks
    np.testing.assert_array_equal(line.x, GAPS)
    np.testing.assert_allclose(line.y, (0.1, 0.05, 0.02, 0.008, 0.0009))
    assert len(networks.x) == len(networks.y) == 25
    assert line.label == "median (n=5)"
    assert all(render(figure, "png") for figure in figures.values())


def test_without_rows_there_is_none() -> None:
    assert not list(circles_figures([]))
    assert not list(circles_figures([row for row in circle_rows() if row.tags["gap"] == GAPS[0]]))
    assert [figure.name for figure in circles_figures([r for r in circle_rows() if r.measurement == GAP])] == [
        "accuracy_by_gap"
    ]
