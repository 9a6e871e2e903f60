"""Which points of a picture are drawn: the rule of the paper's figure."""

from __future__ import annotations

import numpy as np

from vallis.measurements.landscape._minefield_shown import drawn


def test_only_what_is_far_in_both_coordinates_is_left_out() -> None:
    points = np.concatenate([np.random.default_rng(0).normal(size=(60, 2)), [[30.0, 0.0], [20.0, 20.0]]])
    kept = drawn(points, 1.5)
    assert not kept[-1] and kept[-2]
    assert drawn(points, 0.0).all()
    assert drawn(points[:2], 1.5).all() and drawn(points[:0], 1.5).shape == (0,)
