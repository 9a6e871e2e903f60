"""Each rule holds on a table of the paper, and fails on one that differs in what it claims and in nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies.loss_correction import Change, Numbers, failed, rows_of
from vallis.core.types import Verdict
from vallis.studies import _loss_correction_rules as rules
from vallis.studies._loss_correction_rules import (
    CROSS_ENTROPY,
    IDENTITY,
    Condition,
    Method,
    cell,
    estimates,
    true_transition,
)
from vallis.studies.patrini2017_loss_correction import RULES


def changing(key: str, condition: Condition, method: Method, by: float) -> Change:
    """Adds to a number of one cell."""

    def change(numbers: Numbers, at: Condition, of: Method, seed: int) -> None:
        if (at, of) == (condition, method):
            numbers[key] += by * (1 + 0.01 * seed)

    return change


FORWARD, BACKWARD, EARLY = ("forward", "true"), ("backward", "true"), ("early_stopping", "none")
# What must be wrong for a rule to fail.
WRONG: dict[str, Change] = {
    "backward_is_unbiased": changing("backward_gap", ("symmetric", 0.5), CROSS_ENTROPY, 1e-9),
    "forward_keeps_the_minimiser": changing("forward_distance", ("asymmetric", 0.6), CROSS_ENTROPY, 1e-5),
    "forward_helps_asymmetric": changing("test_accuracy", ("asymmetric", 0.6), FORWARD, -0.09),
    "forward_helps_symmetric": changing("test_accuracy", ("symmetric", 0.5), FORWARD, -0.09),
    "forward_memorizes_less_asymmetric": changing("memorized_fraction", ("asymmetric", 0.6), FORWARD, 0.3),
    "forward_memorizes_less_symmetric": changing("memorized_fraction", ("symmetric", 0.5), FORWARD, 0.3),
    "backward_helps_asymmetric": changing("test_accuracy", ("asymmetric", 0.2), BACKWARD, -0.12),
    "backward_helps_symmetric": changing("test_accuracy", ("symmetric", 0.2), BACKWARD, -0.12),
    "estimate_is_near_asymmetric": changing("transition_error", ("asymmetric", 0.3), EARLY, 0.1),
    "estimate_is_near_symmetric": changing("transition_error", ("symmetric", 0.3), EARLY, 0.1),
    "identity_changes_nothing": changing("train_loss", ("asymmetric", 0.2), IDENTITY, 1e-5),
}


def said(name: str, num_seeds: int, change: Change | None = None, data: str = "digits") -> Verdict:
    found: Verdict = RULES[name][0](rows_of(data, num_seeds, change), data=data)
    return found


def test_every_rule_is_tried() -> None:
    assert set(WRONG) == set(RULES)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_holds_where_the_paper_is_right(name: str) -> None:
    for data in ("digits", "fashion_mnist", "cifar10"):
        found = said(name, 5, data=data)
        assert (found.verdict, found.n) == ("holds", 5)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_fails_on_what_it_claims_and_no_other_does(name: str) -> None:
    verdicts = {other: said(other, 5, WRONG[name]).verdict for other in RULES}
    assert verdicts.pop(name) == "fails"
    assert set(verdicts.values()) == {"holds"}


@pytest.mark.parametrize("name", sorted(RULES))
def test_too_little_decides_nothing(name: str) -> None:
    rule = RULES[name][0]
    assert rule([], data="digits").verdict == "not_run"
    assert rule(rows_of("fashion_mnist", 5), data="digits").verdict == "not_run"
    assert rule(failed("digits", 0), data="digits").verdict == "not_run"
    assert said(name, 1).verdict == "undecided"
    some = rule([*rows_of("digits", 5), *failed("digits", 5)], data="digits")
    assert (some.verdict, some.n) == ("holds", 5)


def test_two_points_are_asked_for() -> None:
    """A gain that is there, but smaller."""
    small = changing("test_accuracy", ("asymmetric", 0.6), FORWARD, -0.085)
    assert said("forward_helps_asymmetric", 5, small).verdict == "fails"
    assert said("forward_helps_asymmetric", 5, small).statistic == pytest.approx(0.0153, abs=1e-3)


def test_cells_and_matrices() -> None:
    assert cell("digits", ("symmetric", 0.2), IDENTITY) == {
        "data": "digits",
        "noise": "symmetric",
        "rate": 0.2,
        "loss": "forward",
        "transition": "identity",
    }
    assert float(true_transition("cifar10", ("asymmetric", 0.6))[9, 1]) == 0.6
    assert float(true_transition("digits", ("symmetric", 0.45))[3, 4]) == pytest.approx(0.05)
    held = estimates(rows_of("digits", 2), "digits", ("symmetric", 0.3))
    assert list(held) == [0, 1]
    assert float(held[0][0, 0]) == pytest.approx(0.65)
    assert rules.numbers(rows_of("digits", 2), "generalization_gap", "train_loss", "digits", []).shape == (0, 0)
    assert np.isfinite(held[1]).all()
