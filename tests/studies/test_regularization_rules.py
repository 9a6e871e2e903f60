"""The rules about regularisers on tables that meet them, break them or lack a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from vallis.core.types import Claim, Estimate, Result, Row
from vallis.studies._randomization_figures import figures
from vallis.studies._randomization_rules import RANDOM_LABELS, Variant, cell
from vallis.studies._regularization_rules import NOT_ON_NOISE, REGULARIZED, REGULARIZERS, claims


def rows_of(data: str, num_seeds: int, changed: Mapping[str, float] | None = None, gain: float = 0.01) -> list[Row]:
    """A table in which all is as the claims say, but for the cells of these regularisers: their accuracy is given."""
    held, changed, rows = REGULARIZED[data], changed or {}, []
    variants: dict[str, Variant] = {"none": {}, **{name: REGULARIZERS[name] for name in held.names}}
    networks = dict.fromkeys((*held.networks, held.plain), variants)
    for network in dict.fromkeys((*networks, held.normalized)):
        for name, variant in networks.get(network, {"none": {}}).items():
            regularizer = "batch_norm" if name == "none" and network == held.normalized else name
            for labels in ({}, RANDOM_LABELS):
                for seed in range(num_seeds):
                    test = 0.1 if labels else changed.get(regularizer, 0.8) + 0.001 * seed
                    train = changed.get(regularizer, 1.0) if labels else 1.0
                    numbers = {"train_accuracy": Estimate(value=train), "test_accuracy": Estimate(value=test)}
                    tags = cell(data, network, {**variant, **labels})
                    outcome = Result(values=numbers)
                    rows.append(Row(tags=tags, seed=seed, measurement="generalization_gap", outcome=outcome))
                    if not labels and name == "none":
                        values = {"potential": Estimate(value=gain)}
                        outcome = Result(values=values)
                        rows.append(Row(tags=tags, seed=seed, measurement="early_stopping_potential", outcome=outcome))
    return rows


def of(data: str) -> list[Claim]:
    return [claim for claim in claims() if claim.id.endswith(data)]


@pytest.mark.parametrize("data", REGULARIZED)
def test_every_claim_holds_and_waits(data: str) -> None:
    rows, few = rows_of(data, 5), rows_of(data, 4)
    for claim in of(data):
        verdict = claim.test(rows)
        assert (verdict.verdict, verdict.n, verdict.p) == ("holds", 5, 1 / 32), claim.id
        assert claim.test(few).verdict == "undecided"
        assert claim.test([]).verdict == "not_run"


@pytest.mark.parametrize("data", ["few_digits", "few_clothes"])
@pytest.mark.parametrize("name", [*REGULARIZERS, "batch_norm"])
def test_a_regulariser_that_changes_much_or_keeps_noise_out_fails(data: str, name: str) -> None:
    if name not in (*REGULARIZED[data].names, "batch_norm"):
        return
    rows = rows_of(data, 5, {name: 0.7})
    failed = {claim.id for claim in of(data) if claim.test(rows).verdict == "fails"}
    expected = {f"with_{name}_changes_little_{data}"}
    if name not in NOT_ON_NOISE:
        expected.add(f"with_{name}_fits_noise_{data}")
    assert failed == expected


@pytest.mark.parametrize(("test", "word"), [(0.751, "holds"), (0.749, "fails"), (0.849, "holds"), (0.851, "fails")])
def test_the_threshold_is_five_points(test: float, word: str) -> None:
    (claim,) = [claim for claim in of("few_digits") if claim.id.startswith("with_dropout_changes")]
    verdict = claim.test(rows_of("few_digits", 5, {"dropout": test}))
    assert verdict.verdict == word
    assert verdict.statistic == pytest.approx(abs(test - 0.8))


def test_networks_that_only_guess_need_something() -> None:
    (claim,) = [claim for claim in of("few_digits") if claim.id.startswith("regularizers")]
    assert claim.test(rows_of("few_digits", 5, {"none": 0.3})).verdict == "fails"


@pytest.mark.parametrize(("gain", "word"), [(0.0, "holds"), (0.049, "holds"), (0.051, "fails")])
def test_stopping_in_time_gains_little(gain: float, word: str) -> None:
    (claim,) = [claim for claim in of("few_digits") if claim.id.startswith("stopping")]
    assert claim.test(rows_of("few_digits", 5, gain=gain)).verdict == word


def test_the_table_has_a_bar_and_an_interval_for_each() -> None:
    drawn = {figure.name: figure for figure in figures(rows_of("few_digits", 5), (0.0, 1.0))}
    convnet, normed = drawn["learned_with_few_digits"].marks
    assert convnet.x == ["none", "weight decay", "dropout", "crop", "crop and weight decay", "early stopping"]
    assert normed.x == ["none"]
    assert convnet.label == "convnet (n=5)"
    np.testing.assert_allclose(convnet.y, 0.802)
    # Student's t at 0.975 with 4 degrees of freedom, from a table.
    np.testing.assert_allclose(convnet.error, 2.776445 * np.std(0.001 * np.arange(5), ddof=1) / np.sqrt(5), rtol=1e-6)
    (noisy, _) = drawn["fitted_with_few_digits"].marks
    np.testing.assert_array_equal(noisy.y, np.ones(6))


def test_alexnet_is_asked_only_for_what_the_paper_says_of_it() -> None:
    """Table 4: with weight decay it does not converge on random labels. Table 1: on true ones it changes little."""
    held = {claim.id: claim for claim in of("cifar10")}
    fits, changes = held["with_weight_decay_fits_noise_cifar10"], held["with_weight_decay_changes_little_cifar10"]
    assert "the small Inception:" in fits.says and "AlexNet" in changes.says
    assert "the small Inception:" in held["with_batch_norm_changes_little_cifar10"].says, "AlexNet has none"
    rows = [
        replace(row, outcome=Result(values={key: Estimate(value=0.2) for key in ("train_accuracy", "test_accuracy")}))
        if row.tags["network"] == "alexnet" and row.tags["weight_decay"] > 0
        else row
        for row in rows_of("cifar10", 5)
    ]
    assert (fits.test(rows).verdict, changes.test(rows).verdict) == ("holds", "fails")
