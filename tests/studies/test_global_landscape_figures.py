"""Figures of what there is: all of a whole table, none of an empty one."""

from __future__ import annotations

import numpy as np

from tests.studies.landscape import ROUTES, rows_of
from vallis.studies._global_landscape_figures import figures


def test_all_are_drawn_from_a_whole_table() -> None:
    found = {figure.name: figure for figure in figures(rows_of(3))}
    names = ["barriers", "ways_digits", "ways_fashion_mnist", "constructions", "exits", "growth", "tickets"]
    assert list(found) == names
    np.testing.assert_allclose(found["barriers"].marks[0].y, list(ROUTES.values()))
    assert len(found["exits"].marks) == 3
    np.testing.assert_allclose(found["tickets"].marks[0].y, [0.97, 0.95, 0.9])
    assert figures([]) == []
