"""Ratio estimates against plain means and repeated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vallis.core.types import Estimate
from vallis.numerics.means import minus, ratio


def test_with_equal_weights_it_is_the_common_mean() -> None:
    sample = np.random.default_rng(0).normal(size=50)
    value, stderr, n = ratio(sample, np.ones(50))
    assert (value, stderr, n) == (pytest.approx(sample.mean()), pytest.approx(stats.sem(sample)), 50)


def test_the_scale_of_the_weights_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    weights = rng.integers(1, 5, size=30).astype(float)
    losses = rng.normal(size=30)
    assert ratio(losses * weights, weights) == pytest.approx(ratio(losses * weights * 7, weights * 7))


def test_what_does_not_count_changes_nothing() -> None:
    assert ratio([1.0, 0.0, 4.0], [1.0, 0.0, 2.0]) == ratio([1.0, 4.0], [1.0, 2.0])


def test_the_error_bar_is_the_spread_over_repeated_draws() -> None:
    """Examples with different numbers of tokens: 2000 repeats of 80 examples."""
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 9, size=(2000, 80)).astype(float)
    quality = rng.uniform(size=(2000, 80))  # the tokens of an example share their fate
    right = rng.binomial(counts.astype(int), quality).astype(float)
    found = [ratio(a, b) for a, b in zip(right, counts, strict=True)]
    errors = [stderr for _, stderr, _ in found if stderr is not None]
    assert len(errors) == 2000
    assert np.mean(errors) == pytest.approx(np.std([value for value, _, _ in found]), rel=0.05)
    naive = math.sqrt(0.25 / counts[0].sum())  # as if tokens were independent
    assert np.mean(errors) > 1.5 * naive


def test_few_examples() -> None:
    assert ratio([3.0], [2.0]) == (1.5, None, 1)
    value, stderr, n = ratio([0.0], [0.0])
    assert (math.isnan(value), stderr, n) == (True, None, 0)


def test_a_difference_adds_errors_in_squares() -> None:
    one, other = (Estimate(value=v, stderr=e, n=n, unit="nats", method="m") for v, e, n in ((3, 0.3, 10), (1, 0.4, 7)))
    found = minus(one, other, "one minus other")
    assert (found.value, found.stderr, found.n, found.unit) == (2, pytest.approx(0.5), 7, "nats")
    assert minus(one, Estimate(value=1, stderr=None, n=2, unit="nats", method="m"), "d").stderr is None
