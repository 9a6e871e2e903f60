"""The groups of the data map; the figures themselves are tried with the measurement that they show."""

from __future__ import annotations

import numpy as np

from vallis.measurements.memorization._example_dynamics_figures import _groups


def test_every_example_is_in_one_group() -> None:
    correctness = np.array([0.0, 0.1, 0.5, 0.51, 0.99, 1.0])
    groups = [mark.tolist() for _, mark in _groups(correctness)]
    assert groups == [[i in chosen for i in range(6)] for chosen in ({0}, {1, 2}, {3, 4}, {5})]
