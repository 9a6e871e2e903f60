"""Shares and their intervals against SciPy, a published example, and their own coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vallis.numerics.means import ratio
from vallis.numerics.proportions import chance_of_order, difference, share, share_by_example


@pytest.mark.parametrize(("count", "n"), [(0, 5), (5, 5), (3, 10), (81, 263), (1, 1)])
def test_the_interval_is_that_of_scipy(count: int, n: int) -> None:
    found, expected = share(count, n), stats.binomtest(count, n).proportion_ci(method="wilson")
    assert found.value == count / n and found.n == n
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    inner = stats.binomtest(count, n).proportion_ci(stats.norm.cdf(1) - stats.norm.cdf(-1), method="wilson")
    assert found.stderr == pytest.approx((inner.high - inner.low) / 2)
    assert found.stderr > 0


def test_the_difference_is_that_of_newcombe() -> None:
    """Newcombe (1998), table II, (a) 56/70 and 48/80, method 10: 0.0524 to 0.3339."""
    found = difference(share(56, 70), share(48, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    assert found.n == 70


def test_a_difference_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    counts = rng.binomial([[30], [40]], [[0.9], [0.7]], size=(2, 2000)).tolist()
    found = [difference(share(a, 30), share(b, 40)) for a, b in zip(*counts, strict=True)]
    assert np.mean([one.low <= 0.2 <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def test_the_chance_of_order_counts_pairs() -> None:
    rng = np.random.default_rng(1)
    # In two heaps far apart, so that the scatter is larger than what any smooth distribution has.
    higher, lower = rng.choice([0.0, 5.0], 40), rng.integers(0, 5, 25).astype(float)
    value, stderr = chance_of_order(higher, lower)
    pairs = (higher[:, None] > lower).astype(float) + 0.5 * (higher[:, None] == lower)
    assert value == pytest.approx(pairs.mean(), abs=1e-12)
    expected = pairs.mean(1).var(ddof=1) / 40 + pairs.mean(0).var(ddof=1) / 25
    assert stderr == pytest.approx(np.sqrt(expected))


def test_its_error_bar_is_its_spread() -> None:
    rng = np.random.default_rng(2)
    found = [chance_of_order(rng.normal(1, 1, 30), rng.normal(0, 2, 50)) for _ in range(500)]
    spread = np.std([value for value, _ in found])
    assert np.mean([stderr for _, stderr in found]) == pytest.approx(spread, rel=0.1)
    truth = stats.norm.cdf(1 / np.sqrt(5))
    assert np.mean([value for value, _ in found]) == pytest.approx(truth, abs=4 * spread / np.sqrt(500))


def test_nothing_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one draw"):
        share(0, 0)
    with pytest.raises(ValueError, match="both sides"):
        chance_of_order(np.zeros(0), np.zeros(3))
    assert chance_of_order(np.ones(1), np.zeros(3)) == (1.0, None)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_all_or_of_none_has_an_error_bar_by_example(value: float) -> None:
    counted = np.array([3.0, 1.0, 0.0, 2.0])
    found, stderr, n = share_by_example(value * counted, counted)
    assert (found, stderr, n) == (value, share(round(3 * value), 3).stderr, 3) and stderr > 0
    assert share_by_example(np.array([2.0, 1.0, 0.0, 1.0]), counted) == ratio([2.0, 1.0, 1.0], [3.0, 1.0, 2.0])


def test_a_share_as_a_number_of_a_result() -> None:
    found = share(3, 10)
    made = found.estimate("share of ten")
    assert (made.value, made.stderr, made.n, made.unit, made.method) == (0.3, found.stderr, 10, "1", "share of ten")


@pytest.mark.parametrize(("m", "n", "shift"), [(5, 100, 2.0), (50, 50, 3.0), (20, 20, 5.0), (40, 200, 1.0)])
def test_an_order_covers_the_truth_also_where_both_sides_are_nearly_apart(m: int, n: int, shift: float) -> None:
    """DeLong's error bar alone covers 72, 84, 6 and 93 %: where one side exceeds all of the other it is 0."""
    rng, truth = np.random.default_rng(3), stats.norm.cdf(shift / np.sqrt(2))
    found = [chance_of_order(rng.normal(shift, 1, m), rng.normal(0, 1, n)) for _ in range(400)]
    assert np.mean([abs(value - truth) <= 1.96 * (stderr or 0) for value, stderr in found]) >= 0.92
    assert all(stderr is not None and stderr > 0 for _, stderr in found)


def test_sides_that_are_apart_have_an_error_bar_that_shrinks_with_their_number() -> None:
    bars = [chance_of_order(np.ones(number), np.zeros(number))[1] for number in (2, 10, 100)]
    assert bars == sorted(bars, reverse=True)
    # At an estimate of 1 the lower end solves 1 - t = t (1 + h (1-t)/(2-t) + h t/(1+t)) / (m n).
    low = 1 - 2 * float(bars[1] or 0)
    half = 10 - 1
    assert 1 - low == pytest.approx(low * (1 + half * (1 - low) / (2 - low) + half * low / (1 + low)) / 100, rel=1e-6)
    assert chance_of_order(np.zeros(10), np.ones(10))[1] == pytest.approx(bars[1])
