"""The inverse against its definition, closed forms, and exact binomial tails."""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vallis.core.errors import SettingsError
from vallis.numerics.kl_inverse import binary_divergence, kl_inverse

SHARES = st.floats(0.0, 1.0)
DIVERGENCES = st.floats(0.0, 50.0)


@settings(deadline=None)
@given(q=SHARES, divergence=DIVERGENCES)
def test_it_is_the_largest_within_the_divergence(q: float, divergence: float) -> None:
    p = kl_inverse(q, divergence)
    assert q <= p <= 1
    if p < 1:
        assert binary_divergence(q, min(1.0, p + 1e-9)) >= divergence - 1e-15  # nothing above is within
    if p > q + 1e-9:
        assert binary_divergence(q, p - 1e-9) <= divergence * (1 + 1e-9) + 1e-9  # and everything below is


@settings(deadline=None)
@given(q=SHARES, other=SHARES, divergence=DIVERGENCES, more=DIVERGENCES)
def test_it_rises_with_both(q: float, other: float, divergence: float, more: float) -> None:
    assert kl_inverse(q, divergence + more) >= kl_inverse(q, divergence)
    low, high = sorted((q, other))
    assert kl_inverse(high, divergence) >= kl_inverse(low, divergence) - 1e-12


@pytest.mark.parametrize("q", [0.0, 1e-9, 0.03, 0.5, 0.999, 1.0])
def test_no_divergence_changes_nothing(q: float) -> None:
    assert kl_inverse(q, 0.0) == q


@pytest.mark.parametrize("divergence", [1e-12, 1e-3, 0.4, 3.0, 40.0, 1e4])
def test_of_no_error_at_all_there_is_a_closed_form(divergence: float) -> None:
    assert kl_inverse(0.0, divergence) == pytest.approx(1 - math.exp(-divergence), rel=1e-12, abs=1e-15)
    assert kl_inverse(1e-300, divergence) == pytest.approx(-math.expm1(-divergence), rel=1e-9, abs=1e-12)


def exact_divergence(q: float, p: float) -> Decimal:
    """kl(q || p) of the very numbers that are given, in 60 digits."""
    found = Decimal(0)
    for one, other in ((Decimal(q), Decimal(p)), (1 - Decimal(q), 1 - Decimal(p))):
        if one > 0:
            found += one * (one / other).ln()
    return found


@settings(deadline=None, max_examples=300)
@given(q=st.one_of(st.just(0.0), SHARES), divergence=st.floats(1e-14, 30.0))
def test_it_is_never_below_the_exact_one(q: float, divergence: float) -> None:
    """In exact arithmetic: an upper bound must not lose half a unit in its last place."""
    p = kl_inverse(q, divergence)
    with localcontext(Context(prec=60)):
        assert p == 1.0 or exact_divergence(q, p) >= Decimal(divergence)


@pytest.mark.parametrize("divergence", [0.1 * k for k in range(1, 60)])
def test_without_errors_it_is_rounded_up_by_less_than_two_units(divergence: float) -> None:
    with localcontext(Context(prec=60)):
        exact = 1 - (-Decimal(divergence)).exp()
        p = kl_inverse(0.0, divergence)
        assert exact <= Decimal(p) <= exact + 2 * Decimal(math.ulp(p))


def test_an_independent_solution() -> None:
    """A fine grid instead of a root finder."""
    grid = np.linspace(0.1, 1, 900_001)[:-1]
    within = 0.1 * np.log(0.1 / grid) + 0.9 * np.log(0.9 / (1 - grid)) <= 0.3
    assert kl_inverse(0.1, 0.3) == pytest.approx(grid[within].max(), abs=2e-6)


def test_everything_is_allowed_by_an_infinite_divergence() -> None:
    assert kl_inverse(0.2, math.inf) == 1.0
    assert kl_inverse(0.0, math.inf) == 1.0
    assert binary_divergence(0.2, 1.0) == math.inf
    assert binary_divergence(0.3, 0.3) == 0.0


def test_pinsker() -> None:
    for q in (0.0, 0.1, 0.4):
        for divergence in (0.01, 0.1, 0.5):
            assert kl_inverse(q, divergence) <= q + math.sqrt(divergence / 2) + 1e-12


@pytest.mark.parametrize("true", [0.001, 0.03, 0.2, 0.6])
def test_the_bound_on_a_mean_is_kept_as_often_as_it_says(true: float) -> None:
    """By enumeration of all counts: the chance of an error below the true one is at most delta."""
    n, delta = 300, 0.05
    counts = np.arange(n + 1)
    bounds = np.array([kl_inverse(count / n, math.log(1 / delta) / n) for count in counts])
    missed = float(stats.binom.pmf(counts, n, true)[bounds < true].sum())
    assert missed <= delta
    assert missed > 0 or true < 0.01  # it is no bound that always holds


@pytest.mark.parametrize(("q", "divergence"), [(-0.1, 1.0), (1.1, 1.0), (0.5, -1e-9), (math.nan, 1.0), (0.5, math.nan)])
def test_what_is_no_probability_is_refused(q: float, divergence: float) -> None:
    with pytest.raises(SettingsError, match="a probability and a divergence"):
        kl_inverse(q, divergence)
