"""Slices of several networks: side by side on one scale, and only where they belong together."""

from __future__ import annotations

import numpy as np
import pytest

from tests.measurements.contract import measured
from tests.numerics.solutions import dead_relu, mlp
from vallis.core.errors import UsageError
from vallis.measurements.landscape.loss_slice import LossSlice, together

SLICE = LossSlice(num_points=9, num_points_plane=5)


def test_all_lie_on_the_same_axes() -> None:
    one, other = measured(SLICE, mlp()), measured(SLICE, dead_relu())
    lines, planes, surfaces = together({"one": one, "other": other}, "Both")
    assert [mark.label for mark in lines.marks] == [
        f"{name}, {which} direction" for name in ("one", "other") for which in ("first", "second")
    ]
    np.testing.assert_array_equal(lines.marks[2].y, other.array("losses_first").data)
    for figure, kind in ((planes, "heatmap"), (surfaces, "surface")):
        assert [(mark.kind, mark.label) for mark in figure.marks] == [(kind, "one"), (kind, "other")]
        for mark, result in zip(figure.marks, (one, other), strict=True):
            np.testing.assert_array_equal(mark.z, result.array("losses_plane").data)
            np.testing.assert_array_equal(mark.x, result.array("losses_plane").coords["first_step"])


def test_other_grids_are_refused() -> None:
    one, other = measured(SLICE, mlp()), measured(LossSlice(num_points=7, num_points_plane=5), mlp())
    with pytest.raises(UsageError, match="slices on one grid"):
        together({"one": one, "other": other})
    with pytest.raises(UsageError, match="slices on one grid"):
        together({})
