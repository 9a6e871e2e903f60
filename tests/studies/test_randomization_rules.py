"""Each rule on tables that meet it, break it, are too short for it, or lack what it needs; and how often it errs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.studies.randomization import SHARES, Change, Tags, rows_of
from vallis.core.types import Row, Verdict
from vallis.studies import _randomization_rules as rules
from vallis.studies._randomization_rules import DATA_SETS, numbers
from vallis.studies.zhang2017_randomization import Zhang2017Randomization

Rule = Callable[..., Verdict]


def when(wanted: dict[str, Any], **new: float) -> Change:
    """Changes the numbers of the cells with these tags."""

    def change(held: dict[str, float], tags: Tags, seed: int) -> None:
        if all(tags[key] == value for key, value in wanted.items()):
            held.update({key: value + 0.001 * seed for key, value in new.items()})

    return change


# What breaks each rule, and no more than that.
BROKEN: dict[str, Change] = {
    "fits_anything": when({"pixels": "gaussian_iid"}, train_accuracy=0.9),
    "only_guesses": when({"labels": 1.0, "weight_decay": 0.0}, test_accuracy=0.2),
    "error_grows": when({"labels": 0.6}, test_accuracy=0.85),
    "takes_longer": when({"labels": 1.0}, steps=1010),
    "noise_is_sooner": when({"pixels": "random"}, steps=3000),
    "in_this_order": when({"pixels": "shuffled"}, steps=900),
    "mlp_is_blind": when({"pixels": "shuffled"}, test_accuracy=0.8),
    "convnet_sees": when({"pixels": "shuffled"}, test_accuracy=0.95),
    "decay_changes_little": when({"labels": 0.0, "weight_decay": rules.WEIGHT_DECAY}, test_accuracy=0.6),
    "decay_stops_nothing": when({"labels": 1.0, "weight_decay": rules.WEIGHT_DECAY}, train_accuracy=0.5),
}


def verdict(name: str, rows: list[Row], data: str = "digits") -> Verdict:
    rule: Rule = getattr(rules, name)
    return rule(rows, data=data, fractions=SHARES)


@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_rule_holds_fails_and_waits(name: str, data: str) -> None:
    if name == "mlp_is_blind" and DATA_SETS[data].mlp is None:
        return
    held = verdict(name, rows_of(data, 8), data)
    assert (held.verdict, held.n) == ("holds", 8)
    assert held.p is not None
    assert held.p <= 0.05
    assert held.statistic is not None
    broken = verdict(name, rows_of(data, 8, BROKEN[name]), data)
    assert (broken.verdict, broken.n) == ("fails", 8)
    few = verdict(name, rows_of(data, 1), data)
    assert (few.verdict, few.n) == ("undecided", 1)


@pytest.mark.parametrize(
    ("wanted", "steps"),
    [
        ({"labels": 0.0, "pixels": "none"}, 1150),
        ({"pixels": "shuffled"}, 1300),
        ({"pixels": "random"}, 2500),
        ({"pixels": "gaussian_iid"}, 2500),
        ({"labels": 1.0}, 1150),
    ],
)
def test_any_kind_out_of_order_breaks_the_order(wanted: dict[str, Any], steps: int) -> None:
    assert (
        verdict("in_this_order", rows_of("few_digits", 5, when(wanted, steps=steps)), "few_digits").verdict == "fails"
    )


def test_what_was_never_fitted_took_longer_than_anything() -> None:
    """A network that ran out of steps has no time to fit: neither a ratio within limits, nor one below 1."""
    unfitted = when({"labels": 1.0}, train_accuracy=0.9)
    assert verdict("takes_longer", rows_of("few_digits", 5, unfitted), "few_digits").verdict == "fails"
    assert verdict("noise_is_sooner", rows_of("few_digits", 5, unfitted), "few_digits").verdict == "holds"
    assert verdict("in_this_order", rows_of("few_digits", 5, unfitted), "few_digits").verdict == "holds"
    nothing = when({}, train_accuracy=0.9)
    for name in ("takes_longer", "noise_is_sooner", "in_this_order"):
        found = verdict(name, rows_of("few_digits", 5, nothing), "few_digits")
        assert (found.verdict, found.statistic) == ("fails", None)


def test_who_is_asked_what() -> None:
    names = ("fits_anything", "mlp_does_not_see_places", "noise_is_fitted_in_this_order", "weight_decay_stops_nothing")
    asked = {data: [name for name in names if held.asks(name)] for data, held in DATA_SETS.items()}
    assert asked["digits"] == asked["photographs"] == ["fits_anything", names[1], names[3]]
    assert asked["few_digits"] == asked["few_clothes"] == ["fits_anything", names[2]]
    assert asked["cifar10"] == list(names)


@pytest.mark.parametrize("name", BROKEN)
def test_a_rule_is_not_run_without_its_cells(name: str) -> None:
    assert verdict(name, []).verdict == "not_run"
    assert verdict(name, rows_of("fashion_mnist", 8)).verdict == "not_run"
    nothing = rows_of("digits", 8, missing=lambda tags, seed: True)
    assert verdict(name, nothing).verdict == "not_run"


@pytest.mark.parametrize("name", BROKEN)
def test_a_seed_that_lacks_a_cell_does_not_count(name: str) -> None:
    def missing(tags: Tags, seed: int) -> bool:
        return seed == 3

    assert verdict(name, rows_of("digits", 8, missing=missing)).n == 7


def test_one_seed_of_eight_may_miss_a_rule_about_networks() -> None:
    def once(held: dict[str, float], tags: Tags, seed: int) -> None:
        if seed == 2:
            held["train_accuracy"] = 0.5

    assert verdict("fits_anything", rows_of("digits", 8, once)).verdict == "holds"
    assert verdict("fits_anything", rows_of("digits", 6, once)).verdict == "undecided"


@pytest.mark.parametrize(("ratio", "word"), [(1.29, "fails"), (1.31, "holds"), (5.9, "holds"), (6.1, "fails")])
def test_the_thresholds_are_those_of_the_claim(ratio: float, word: str) -> None:
    def change(held: dict[str, float], tags: Tags, seed: int) -> None:
        held["steps"] = 1000 * (ratio if tags["labels"] == 1.0 else 1.0)

    assert verdict("takes_longer", rows_of("digits", 5, change)).verdict == word

    def lucky(held: dict[str, float], tags: Tags, seed: int) -> None:
        held["test_accuracy"] = 0.1 + 0.01 * ratio

    inside = 0.01 * ratio <= 0.03
    assert verdict("only_guesses", rows_of("digits", 5, lucky)).verdict == ("holds" if inside else "fails")


def test_every_network_of_a_data_set_must_meet_the_rule() -> None:
    change = when({"network": "alexnet", "labels": 1.0}, train_accuracy=0.3)
    assert verdict("fits_anything", rows_of("cifar10", 8, change), "cifar10").verdict == "fails"


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("num_seeds", [5, 8])
def test_what_is_true_of_half_the_networks_seldom_holds(name: str, num_seeds: int) -> None:
    """Each seed follows the paper or breaks the rule by the toss of a coin; equality is put to a mean on its margin."""
    generator = np.random.default_rng(0)
    repeats, count = 400, 0
    # The rows are made once; each repeat draws which of them every seed has.
    good, bad = rows_of("digits", num_seeds), rows_of("digits", num_seeds, BROKEN[name])
    for _ in range(repeats):
        if name == "mlp_is_blind":
            noise = generator.normal(0.02, 0.01, num_seeds)
            rows = rows_of("digits", num_seeds, _shifted(noise))
        else:
            coin = generator.random(num_seeds) < 0.5
            rows = [g if coin[g.seed] else b for g, b in zip(good, bad, strict=True)]
        count += verdict(name, rows).verdict == "holds"
    assert count / repeats <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / repeats)


def _shifted(noise: Any) -> Change:
    def change(held: dict[str, float], tags: Tags, seed: int) -> None:
        held["test_accuracy"] = 0.9 - (noise[seed] if tags["pixels"] == "shuffled" else 0.0)

    return change


def test_numbers_are_laid_out_by_seed_network_and_variant() -> None:
    found = numbers(rows_of("cifar10", 2), "steps", "cifar10", ["alexnet", "inception"], [{}, {"labels": 1.0}])
    assert found.shape == (2, 2, 2)
    np.testing.assert_allclose(found[1], [[1010, 2010], [1010, 2010]])


def test_alexnet_is_not_asked_to_fit_random_labels_with_weight_decay() -> None:
    """The paper's own did not, table 4; everything else is asked of it, and the claim says so."""
    (claim,) = [one for one in Zhang2017Randomization().claims() if one.id == "weight_decay_stops_nothing_cifar10"]
    assert claim.says.endswith("at least 0.99 (alexnet aside, which the paper says does not converge then).")
    decayed = {"labels": 1.0, "weight_decay": rules.WEIGHT_DECAY}
    for network, word in (("alexnet", "holds"), ("mlp_1x512", "fails")):
        change = when({**decayed, "network": network}, train_accuracy=0.5)
        assert claim.test(rows_of("cifar10", 8, change)).verdict == word
