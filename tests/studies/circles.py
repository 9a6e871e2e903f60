"""Rows of the circles, as the measurements give them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vallis.core.types import Array, Estimate, Result, Row
from vallis.studies._circles_cells import GAPS, tags
from vallis.studies._circles_rules import MARGINS
from vallis.studies._visualizations_rules import GAP


def circle_rows(
    right: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 0.95),
    distances: Sequence[float] = (0.1, 0.05, 0.02, 0.008, 0.0009),
    num_seeds: int = 5,
) -> list[Row]:
    """For each seed and gap the training accuracy, the nearest point (on the wrong side), and a sharpness."""
    found = []
    for seed in range(num_seeds):
        for gap, share, near in zip(GAPS, right, distances, strict=True):
            margins = {"train_distances": Array(data=np.array([0.5, -near, np.nan]), dims=("example",))}
            for name, values in (
                (GAP, {"train_accuracy": Estimate(value=share)}),
                (MARGINS, margins),
                ("sharpness", {"top_eigenvalue": Estimate(value=1.0 / gap)}),
            ):
                found.append(Row(tags=tags(gap), seed=seed, measurement=name, outcome=Result(values=values)))
    return found
