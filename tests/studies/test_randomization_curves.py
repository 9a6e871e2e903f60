"""Curves along training: means and intervals of seeds that end at different steps."""

from __future__ import annotations

import numpy as np
from scipy import stats

from vallis.core.types import Array, Result, Row
from vallis.studies._randomization_curves import of_accuracies, of_losses
from vallis.studies._randomization_rules import cell

KINDS = {"true": {}, "random labels": {"labels": 1.0}}


def row(measurement: str, key: str, network: str, seed: int, data: list[float], steps: list[float]) -> Row:
    curve = Array(data=np.array(data), dims=("step",), coords={"step": np.array(steps)})
    tags = cell("few_digits", network, {})
    return Row(tags=tags, seed=seed, measurement=measurement, outcome=Result(values={key: curve}))


def test_a_seed_that_has_ended_keeps_its_last_value() -> None:
    curves = [([3.0, 2.0, 1.0], [10.0, 20.0, 30.0]), ([2.0, 0.0], [10.0, 20.0])]
    rows = [row("learning_curve", "training_loss", "convnet", seed, *curve) for seed, curve in enumerate(curves)]
    figure = of_losses(rows, "few_digits", "convnet", KINDS)
    band, line = figure.marks
    np.testing.assert_array_equal(line.x, [10, 20, 30])
    np.testing.assert_allclose(line.y, [2.5, 1.0, 0.5])
    half = stats.t.ppf(0.975, 1) * np.array([0.5, 1.0, 0.5])
    np.testing.assert_allclose(band.high - band.low, 2 * half)
    assert line.label == "true (n=2)"


def test_one_seed_has_no_band_and_nothing_has_no_line() -> None:
    rows = [row("learning_curve", "training_loss", "convnet", 0, [3.0, 2.0], [10.0, 13.0])]
    assert [mark.kind for mark in of_losses(rows, "few_digits", "convnet", KINDS).marks] == ["line"]
    assert of_losses([], "few_digits", "convnet", KINDS).marks == ()


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    steps = np.arange(10.0, 8001.0, 10.0)
    rows = [row("learning_curve", "training_loss", "convnet", 0, list(1 / steps), list(steps))]
    (line,) = of_losses(rows, "few_digits", "convnet", KINDS).marks
    assert len(line.x) == 120
    assert (line.x[0], line.x[-1]) == (10, 8000)
    np.testing.assert_allclose(line.y, 1 / line.x)


def test_each_network_has_its_accuracy_and_the_best_so_far() -> None:
    rows = [
        row("early_stopping_potential", key, network, seed, [0.1, 0.8, 0.7], [8.0, 11.0, 16.0])
        for key in ("test_accuracy", "running_best")
        for network in ("convnet", "convnet_with_norm")
        for seed in range(3)
    ]
    lines = [mark.label for mark in of_accuracies(rows, "few_digits").marks if mark.kind == "line"]
    assert lines[0] == "convnet, now (n=3)"
    assert lines[-1] == "convnet with norm, best so far (n=3)"
    assert len(lines) == 4
    bands = [mark for mark in of_accuracies(rows, "few_digits").marks if mark.kind == "band"]
    assert len(bands) == 2, "of what it is now, not of the best so far"
