"""The rules by which the claims on the circles of `huang2019_visualizations` are decided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vallis.core.types import Result, Row, Verdict
from vallis.studies._circles_cells import GAPS, tags
from vallis.studies._rows import judged
from vallis.studies._visualizations_rules import GAP

MARGINS = "input_margins"


def accuracy_falls(rows: Sequence[Row]) -> Verdict:
    """A7: from no gap to the next smaller one does the training accuracy rise, and it is lower at the end."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        right = np.array([result.estimate("train_accuracy").value for result in found])
        return bool((np.diff(right) <= 0).all() and right[-1] < right[0]), float(right[-1])

    return judged(rows, GAP, [tags(gap) for gap in GAPS], look)


def margin_within_gap(rows: Sequence[Row]) -> Verdict:
    """A7: at the smallest gap the boundary passes a training point, right or wrong, at no more than the gap."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        distance = nearest(found[0])
        return distance <= GAPS[-1], distance / GAPS[-1]

    return judged(rows, MARGINS, [tags(GAPS[-1])], look)


def margin_falls(rows: Sequence[Row]) -> Verdict:
    """From each gap to the next smaller one the boundary comes nearer to the nearest training point."""

    def look(found: Sequence[Result]) -> tuple[bool, float]:
        distances = [nearest(result) for result in found]
        return bool((np.diff(distances) < 0).all()), distances[0] / distances[-1]

    return judged(rows, MARGINS, [tags(gap) for gap in GAPS], look)


def nearest(result: Result) -> float:
    """How near the boundary comes to a training point, be its answer right or wrong."""
    return float(np.nanmin(np.abs(result.array("train_distances").data)))
