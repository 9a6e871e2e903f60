"""The rules about what is built in closed form, on tables that meet them, break them or lack a cell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.studies.closed_form import row_of, rows_of
from vallis.core.types import Claim, Estimate, Outcome, Result
from vallis.studies._closed_form_rules import (
    BUILT,
    PAIR,
    RANDOM_LABELS,
    claims,
)

# What breaks each claim, and no other: measurement, key, value on random and on true labels (None leaves it).
BROKEN: dict[str, tuple[str, str, float | None, float | None]] = {
    "two_n_plus_d_weights_memorise": ("finite_sample_expressivity", "largest_error", 2.1e-6, None),
    "construction_learns_nothing": ("generalization_gap", "test_accuracy", 0.14, None),
    "gradient_descent_finds_least_norm": ("implicit_minimum_norm", "stochastic_difference", None, 2e-6),
    "start_elsewhere_ends_elsewhere": ("implicit_minimum_norm", "random_start_norm_ratio", None, 1.0),
    "kernel_interpolates_and_generalises": ("kernel_interpolation", "test_error", None, 0.06),
    "noise_has_the_larger_norm": ("kernel_interpolation", "norm", 10.0, None),
    "bad_interpolants_have_larger_norm": ("kernel_interpolation", "random_centres_norm", None, 20.0),
}


def of(data: str) -> list[Claim]:
    return [claim for claim in claims() if claim.id.endswith(data) and not claim.id.startswith("rademacher")]


@pytest.mark.parametrize("data", BUILT)
def test_every_claim_holds_and_waits(data: str) -> None:
    assert len(of(data)) == (7 if data == "digits" else 6)
    rows = rows_of(data, 8)
    for claim in of(data):
        verdict = claim.test(rows)
        assert (verdict.verdict, verdict.n) == ("holds", 8), claim.id
        assert claim.test(rows_of(data, 4)).verdict == "undecided"
        assert claim.test([]).verdict == "not_run"


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_a_claim_breaks_no_other(name: str) -> None:
    rows = rows_of("digits", 8, BROKEN[name])
    assert [claim.id for claim in of("digits") if claim.test(rows).verdict != "holds"] == [f"{name}_digits"]


def test_one_weight_too_many_is_seen() -> None:
    (claim,) = [claim for claim in of("digits") if claim.id.startswith("two_n")]
    for key, value in (("num_parameters", 1165.0), ("one_output_num_parameters", 263.0)):
        rows = rows_of("digits", 8, ("finite_sample_expressivity", key, value, None))
        assert claim.test(rows).verdict == "fails"
    rows = rows_of("digits", 8, ("finite_sample_expressivity", "one_output_largest_error", None, 1.1e-5))
    assert claim.test(rows).verdict == "fails"


@pytest.mark.parametrize("name", BROKEN)
def test_a_seed_that_lacks_a_number_is_left_out_and_one_whose_number_is_none_breaks_the_claim(name: str) -> None:
    """Of 8 seeds one lacks a value: 7 are judged. One has NaN there: 8 are judged, and it does not meet the rule."""
    (claim,) = [claim for claim in of("digits") if claim.id == f"{name}_digits"]
    measurement, key, on_random, _ = BROKEN[name]
    labels = 0.0 if on_random is None else 1.0
    rows = rows_of("digits", 8)
    for kept, expected in ((False, ("holds", 7)), (True, ("holds", 8))):
        changed = [
            replace(row, outcome=_spoiled(row.outcome, key, kept))
            if (row.measurement, row.seed, row.tags["labels"]) == (measurement, 3, labels)
            else row
            for row in rows
        ]
        verdict = claim.test(changed)
        assert (verdict.verdict, verdict.n) == expected
        # Seven of eight, or all of seven.
        assert verdict.p == pytest.approx(9 / 256 if kept else 1 / 128)


def _spoiled(outcome: Outcome, key: str, kept: bool) -> Outcome:
    assert isinstance(outcome, Result)
    others = {name: value for name, value in outcome.values.items() if name != key}
    return Result(values=others | ({key: Estimate(value=float("nan"))} if kept else {}))


@pytest.mark.parametrize(("accuracy", "word"), [(1.0, "holds"), (0.996, "holds"), (0.99, "fails")])
def test_answers_agree_with_random_signs(accuracy: float, word: str) -> None:
    """A correlation of 0.99 is an accuracy of 0.995."""
    (claim,) = [claim for claim in claims() if claim.id.startswith("rademacher")]
    rows = [
        row_of(PAIR, "mlp", RANDOM_LABELS, s, "generalization_gap", {"train_accuracy": accuracy}, 9) for s in range(8)
    ]
    assert claim.test(rows).verdict == word
    assert claim.test([]).verdict == "not_run"
