"""The rules of the circles on numbers that meet them, on numbers that do not, and on too few."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.studies.circles import circle_rows
from vallis.core.types import Row, Verdict
from vallis.studies import _circles_rules as rules


@pytest.mark.parametrize(
    ("rule", "rows", "expected"),
    [
        (rules.accuracy_falls, circle_rows(), "holds"),
        (rules.accuracy_falls, circle_rows(right=(1.0, 0.95, 0.96, 0.9, 0.8)), "fails"),
        (rules.accuracy_falls, circle_rows(right=(1.0,) * 5), "fails"),
        (rules.accuracy_falls, circle_rows(num_seeds=3), "undecided"),
        (rules.margin_within_gap, circle_rows(), "holds"),
        (rules.margin_within_gap, circle_rows(distances=(0.1, 0.05, 0.02, 0.008, 0.0011)), "fails"),
        (rules.margin_falls, circle_rows(), "holds"),
        (rules.margin_falls, circle_rows(distances=(0.1, 0.05, 0.02, 0.02, 0.001)), "fails"),
        (rules.margin_falls, [row for row in circle_rows() if row.tags["gap"] != 0.03], "not_run"),
        (rules.accuracy_falls, [], "not_run"),
    ],
)
def test_rules_of_the_circles(rule: Callable[[list[Row]], Verdict], rows: list[Row], expected: str) -> None:
    assert rule(rows).verdict == expected


def test_what_is_shown() -> None:
    assert rules.accuracy_falls(circle_rows()).statistic == 0.95
    assert rules.margin_within_gap(circle_rows()).statistic == pytest.approx(0.9)
    assert rules.margin_falls(circle_rows()).statistic == pytest.approx(0.1 / 0.0009)
