"""Each test against scipy or by hand; and honesty: what is just untrue is said to hold in at most 5 % of runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from vallis.numerics.stats import (
    ALPHA,
    Evidence,
    equivalence,
    majority,
    sign_test,
    spearman,
    t_test,
    verdict_from,
)

REPEATS = 2000
GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 3, 5, 8, 20])
def test_majority_is_the_binomial_test(n: int) -> None:
    for k in range(n + 1):
        found = majority([True] * k + [False] * (n - k))
        assert found.statistic == k / n
        assert found.p_for == pytest.approx(stats.binomtest(k, n, 0.5, alternative="greater").pvalue)
        assert found.p_against == pytest.approx(stats.binomtest(k, n, 0.5, alternative="less").pvalue)


def test_how_many_repeats_a_majority_takes() -> None:
    decided = {n: verdict_from(majority([True] * n)).verdict for n in range(1, 7)}
    assert decided == {1: "undecided", 2: "undecided", 3: "undecided", 4: "undecided", 5: "holds", 6: "holds"}
    assert verdict_from(majority([True] * 4 + [False])).verdict == "undecided"
    assert verdict_from(majority([True] * 7 + [False])).verdict == "holds"
    assert verdict_from(majority([False] * 5)).verdict == "fails"
    assert verdict_from(majority([True] * 5)).p == 1 / 32


def test_sign_test_leaves_out_what_says_nothing() -> None:
    found = sign_test([0.1, 0.2, 0.3, 0.0, -0.1])
    assert (found.n, found.statistic) == (4, 0.1)
    assert found.p_for == pytest.approx(stats.binomtest(3, 4, alternative="greater").pvalue)
    assert sign_test([2, 3, 4], threshold=3).n == 2
    assert sign_test([]).n == 0
    assert math.isnan(sign_test([]).statistic)


def test_t_test_is_scipys() -> None:
    values = GENERATOR.normal(0.3, 1, 9)
    found = t_test(values.tolist(), 0.1)
    assert found.statistic == pytest.approx(values.mean())
    for alternative, p in (("greater", found.p_for), ("less", found.p_against)):
        assert p == pytest.approx(stats.ttest_1samp(values, 0.1, alternative=alternative).pvalue)


def test_values_without_spread_decide_by_their_number() -> None:
    assert verdict_from(t_test([1.0, 1.0])).verdict == "undecided"
    assert verdict_from(t_test([1.0] * 5)).verdict == "holds"
    assert verdict_from(t_test([1.0] * 5, threshold=2)).verdict == "fails"
    assert verdict_from(t_test([1.0] * 5, threshold=1)).verdict == "undecided"
    assert verdict_from(t_test([5.0])).verdict == "undecided"


def test_equivalence_needs_evidence_not_only_the_lack_of_a_difference() -> None:
    assert verdict_from(equivalence([0.001, -0.002, 0.0, 0.001, -0.001], 0.03)).verdict == "holds"
    assert verdict_from(equivalence([0.2, -0.3, 0.1], 0.03)).verdict == "undecided"
    assert verdict_from(equivalence([0.001], 0.03)).verdict == "undecided"
    for sign in (-1, 1):
        assert verdict_from(equivalence([sign * v for v in (0.2, 0.21, 0.19, 0.2)], 0.03)).verdict == "fails"


@pytest.mark.parametrize("n", [3, 5, 6, 12, 40])
def test_spearman_is_scipys(n: int) -> None:
    x, y = GENERATOR.normal(size=n), GENERATOR.integers(0, 4, size=n).astype(float)
    if np.ptp(y) == 0:
        y[0] += 1
    found = spearman(x.tolist(), y.tolist())
    assert found.statistic == pytest.approx(stats.spearmanr(x, y).statistic)
    if n > 8:
        assert found.p_for == pytest.approx(stats.spearmanr(x, y, alternative="greater").pvalue)
        return
    orders = stats.permutation_test(
        (x,), lambda x: stats.spearmanr(x, y).statistic, permutation_type="pairings", alternative="greater"
    )
    assert found.p_for == pytest.approx(orders.pvalue)


def test_spearman_at_its_ends() -> None:
    assert spearman([1, 2, 3, 4], [1, 5, 6, 7]) == Evidence(statistic=1.0, p_for=1 / 24, p_against=1.0, n=4)
    assert spearman([1, 2, 3, 4], [7, 6, 5, 1]).statistic == pytest.approx(-1)
    for x, y in (([1, 2], [1, 2]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [0, 0, 0, 0])):
        assert math.isnan(spearman(x, y).statistic)
        assert verdict_from(spearman(x, y)).verdict == "undecided"
    assert spearman(range(30), range(30)).p_for < 1e-10


def test_a_verdict_carries_its_evidence() -> None:
    strong = Evidence(statistic=0.7, p_for=0.01, p_against=0.99, n=9)
    held = verdict_from(strong)
    assert (held.verdict, held.statistic, held.p, held.n) == ("holds", 0.7, 0.01, 9)
    assert verdict_from(strong, statistic=3.0).statistic == 3.0
    assert verdict_from(strong, alpha=0.001).verdict == "undecided"
    weak = Evidence(statistic=math.nan, p_for=0.97, p_against=0.03, n=9)
    fallen = verdict_from(weak)
    assert (fallen.verdict, fallen.statistic, fallen.p) == ("fails", None, 0.03)
    assert verdict_from(None).verdict == "not_run"
    assert verdict_from(majority([])).verdict == "not_run"


def gaussian(n: int) -> list[float]:
    return GENERATOR.normal(size=n).tolist()


def skewed(n: int) -> list[float]:
    """Of median 0, with a long tail."""
    return (GENERATOR.exponential(size=n) - math.log(2)).tolist()


# Draws of evidence where what is claimed is just untrue, and its contrary too.
BOUNDARY: dict[str, Callable[[int], Evidence]] = {
    "majority": lambda n: majority((GENERATOR.random(n) < 0.5).tolist()),
    "sign_test": lambda n: sign_test(gaussian(n)),
    "sign_test, skewed": lambda n: sign_test(skewed(n)),
    "t_test": lambda n: t_test(gaussian(n)),
    "spearman": lambda n: spearman(gaussian(n), gaussian(n)),
    "spearman with ties": lambda n: spearman(gaussian(n), GENERATOR.integers(0, 3, n).tolist()),
    "equivalence": lambda n: equivalence([0.1 + 0.02 * value for value in gaussian(n)], 0.1),
}


def rate(verdicts: Sequence[str], word: str) -> float:
    return sum(said == word for said in verdicts) / len(verdicts)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 10])
@pytest.mark.parametrize("name", BOUNDARY)
def test_what_is_just_untrue_seldom_holds(name: str, n: int) -> None:
    verdicts = [verdict_from(BOUNDARY[name](n)).verdict for _ in range(REPEATS)]
    allowed = ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / REPEATS)
    assert rate(verdicts, "holds") <= allowed
    assert rate(verdicts, "fails") <= allowed


@pytest.mark.parametrize("name", ["t_test", "sign_test"])
def test_what_is_true_is_found(name: str) -> None:
    tests = {"t_test": t_test, "sign_test": sign_test}
    verdicts = [verdict_from(tests[name]([1.5 + v for v in gaussian(12)])).verdict for _ in range(300)]
    assert rate(verdicts, "holds") > 0.9
    assert rate(verdicts, "fails") == 0


def test_values_that_are_equal_up_to_rounding_are_equal() -> None:
    """Differences of accuracies are multiples of one in N: a spread of 1e-17 is no evidence."""
    first, second = -0.07, float(np.nextafter(-0.07, 0))
    assert np.std([first, second]) > 0
    found = t_test([first, second])
    assert (found.p_for, found.p_against) == (1.0, 0.25)
    assert t_test([-0.07, -0.07 + 1e-9]).p_against < 1e-6
