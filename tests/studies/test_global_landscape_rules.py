"""Each rule can say yes and no: a number that is wrong turns its claims over, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies.landscape import rows_of
from vallis.studies.sun2020_global_landscape import Sun2020GlobalLandscape

CLAIMS = {claim.id: claim for claim in Sun2020GlobalLandscape().claims()}
BOTH = ("digits", "fashion_mnist")


def failing(changes: dict[str, object]) -> set[str]:
    rows = rows_of(5, changes)
    verdicts = {name: claim.test(rows).verdict for name, claim in CLAIMS.items()}
    assert set(verdicts.values()) <= {"holds", "fails"}
    return {name for name, verdict in verdicts.items() if verdict == "fails"}


def test_what_is_right_holds_and_few_seeds_decide_nothing() -> None:
    assert failing({}) == set()
    assert {claim.test(rows_of(3)).verdict for claim in CLAIMS.values()} == {"undecided"}
    assert {claim.test([]).verdict for claim in CLAIMS.values()} == {"not_run"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"minimum_loss": 0.21}, {"a_bad_minimum_at_any_width", "a_descent_stays_there"}),
        ({"lowest_changes": np.array([-1e-3])}, {"a_bad_minimum_at_any_width"}),
        ({"minimum_kind": 1.0}, {"a_bad_minimum_at_any_width"}),
        ({"better_loss": 0.19}, {"a_bad_minimum_at_any_width"}),
        ({"descent_end": 0.1}, {"a_descent_stays_there"}),
        ({"plateau_gradient": 1e-3}, {"b_dead_plateau"}),
        ({"barriers": np.array([0.1, 0.01])}, {"c_no_bad_basin"}),
        ({"end_loss": 0.006}, {"c_no_bad_basin"}),
        ({"plateau_loss": 0.26}, {"b_dead_plateau"}),
        ({"start_loss": 2.5}, {"d_exponential_unit_leaves"}),
        ({"rise_radius_second": 1.0}, {f"i_loss_rises_around_{data}" for data in BOTH}),
        ({"certified": 1.0}, {"c_narrow_is_not_certified"}),
        ({"certified": 0.0}, {"c_no_bad_basin"}),
        ({"coefficient": 0.15}, {"d_exponential_unit_dies"}),
        ({"norm_growth": -0.1}, {"d_exponential_unit_leaves"}),
        ({"own_loss": 0.2}, {"d_exponential_unit_dies", "d_exponential_unit_leaves"}),
        ({"to_infinity": 1.0}, {"e_decay_removes_it"}),
        ({"to_infinity": 0.0}, {"e_path_to_infinity"}),
        ({"smallest_eigenvalue": -0.5}, {"f_no_strict_saddle"}),
        (
            {"straight_barrier": 0.29},
            {f"{claim}_{data}" for data in BOTH for claim in ("g_straight_line_climbs", "h_matching_lowers")},
        ),
        ({"curve_barrier": 0.06}, {f"g_curve_is_low_{data}" for data in BOTH}),
        ({"band_barrier": 0.07}, {f"h_band_is_low_{data}" for data in BOTH}),
        ({"aligned_barrier": 0.31}, {f"h_matching_lowers_{data}" for data in BOTH}),
        ({"rise_radius_first": 1.0}, {f"i_loss_rises_around_{data}" for data in BOTH}),
        ({"test_accuracy": 0.95}, {"j_ticket_beats_reinitialise", "j_ticket_beats_random_mask"}),
    ],
)  # fmt: skip
def test_a_wrong_number_is_noticed(changes: dict[str, object], expected: set[str]) -> None:
    assert failing(changes) == expected


def test_barriers_of_other_ways_are_told_as_shares_of_the_straight_one() -> None:
    found = {name: claim.test(rows_of(5)).statistic for name, claim in CLAIMS.items()}
    assert found["h_band_is_low_digits"] == pytest.approx(0.02 / 0.6)
    assert found["h_matching_lowers_digits"] == pytest.approx(0.2 / 0.6)
    assert found["g_curve_is_low_digits"] == pytest.approx(0.01)
    flat = CLAIMS["h_band_is_low_digits"].test(rows_of(5, {"straight_barrier": 0.0}))
    assert (flat.verdict, flat.statistic) == ("fails", None)
