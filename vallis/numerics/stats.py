"""Tests of a few repeats: exact or one-sided, and honest when the repeats are too few to say anything.

Every test looks both ways: `p_for` is the chance of evidence at least as strong if what is claimed were just untrue,
`p_against` if it were just true. A verdict is "holds" or "fails" only where one of them is at most `ALPHA`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vallis.core.types import Verdict

ALPHA = 0.05
_ROUNDING = 1e-12
_EXACT_UP_TO = 8  # 8! orders take 10 ms; beyond, the approximation is good


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What repeats say of a claim.

    Attributes:
        statistic: the number that the test looks at.
        p_for: the p-value of the claim's being true.
        p_against: the p-value of its being untrue.
        n: how many repeats it rests on.
    """

    statistic: float
    p_for: float
    p_against: float
    n: int


def verdict_from(evidence: Evidence | None, *, alpha: float = ALPHA, statistic: float | None = None) -> Verdict:
    """What to say of a claim, with the p-value that decides it (undecided: the one in its favour).

    Args:
        evidence: None, or of no repeats, where nothing was run.
        alpha: the most often that a claim that is just untrue may be said to hold.
        statistic: shown instead of the one that was tested, where another says more.
    """
    if evidence is None or evidence.n == 0:
        return Verdict(verdict="not_run")
    shown = evidence.statistic if statistic is None else statistic
    finite = shown if math.isfinite(shown) else None
    if evidence.p_for <= alpha:
        return Verdict(verdict="holds", statistic=finite, p=evidence.p_for, n=evidence.n)
    if evidence.p_against <= alpha:
        return Verdict(verdict="fails", statistic=finite, p=evidence.p_against, n=evidence.n)
    return Verdict(verdict="undecided", statistic=finite, p=evidence.p_for, n=evidence.n)


def majority(met: Sequence[bool]) -> Evidence:
    """Whether what was seen in each repeat, or not, is seen in more than half of all repeats: an exact binomial test.

    Five repeats decide only if they all agree (p = 1/32); fewer than five never do.
    """
    n, k = len(met), sum(bool(one) for one in met)
    return Evidence(
        statistic=k / n if n else math.nan,
        p_for=float(stats.binom.sf(k - 1, n, 0.5)),
        p_against=float(stats.binom.cdf(k, n, 0.5)),
        n=n,
    )


def sign_test(values: Sequence[float], threshold: float = 0.0) -> Evidence:
    """Whether the median lies above the threshold; nothing is assumed of the distribution.

    A value equal to the threshold says nothing and is left out of n. The statistic is the median of all values.
    """
    held = np.asarray(values, dtype=float)
    told = majority([bool(value > threshold) for value in held if value != threshold])
    return Evidence(statistic=_median(held), p_for=told.p_for, p_against=told.p_against, n=told.n)


def t_test(values: Sequence[float], threshold: float = 0.0) -> Evidence:
    """Whether the mean lies above the threshold, for values that are about Gaussian; of differences, the paired t-test.

    Fewer than two values decide nothing. The statistic is the mean.
    """
    held = np.asarray(values, dtype=float)
    n = len(held)
    mean = float(held.mean()) if n else math.nan
    if n < 2:
        return Evidence(statistic=mean, p_for=1.0, p_against=1.0, n=n)
    error = float(held.std(ddof=1)) / math.sqrt(n)
    # Equal up to the rounding of differences, they show no spread to judge by: all that is left is their number.
    if error <= _ROUNDING * float(np.abs(held).max()):
        signs = sign_test(values, threshold)
        return Evidence(statistic=mean, p_for=signs.p_for, p_against=signs.p_against, n=n)
    t = (mean - threshold) / error
    return Evidence(statistic=mean, p_for=float(stats.t.sf(t, n - 1)), p_against=float(stats.t.cdf(t, n - 1)), n=n)


def equivalence(differences: Sequence[float], margin: float) -> Evidence:
    """Whether the mean difference lies within the margin on both sides: two one-sided t-tests.

    To be near zero by chance is not enough: few or scattered values leave it undecided.
    """
    low, high = t_test(differences, -margin), t_test([-value for value in differences], -margin)
    # It is untrue as soon as one side is.
    against = min(1.0, 2 * min(low.p_against, high.p_against))
    return Evidence(statistic=low.statistic, p_for=max(low.p_for, high.p_for), p_against=against, n=low.n)


def spearman(x: Sequence[float], y: Sequence[float]) -> Evidence:
    """Whether y rises with x: the rank correlation.

    Up to eight pairs it is compared with that of every order of y, beyond by Student's t. Without at least three pairs,
    or where one of the two is constant, nothing is decided and the correlation is NaN.
    """
    n = len(x)
    ranks = [stats.rankdata(values) for values in (x, y)]
    if n < 3 or any(np.ptp(rank) == 0 for rank in ranks):
        return Evidence(statistic=math.nan, p_for=1.0, p_against=1.0, n=n)
    first, second = ((rank - rank.mean()) / np.linalg.norm(rank - rank.mean()) for rank in ranks)
    rho = float(np.clip(first @ second, -1, 1))
    if n <= _EXACT_UP_TO:
        orders = np.array(list(permutations(range(n))))
        others = second[orders] @ first
        above, below = float(np.mean(others >= rho - 1e-12)), float(np.mean(others <= rho + 1e-12))
    else:
        t = rho * math.sqrt((n - 2) / max(1 - rho * rho, 1e-300))
        above, below = float(stats.t.sf(t, n - 2)), float(stats.t.cdf(t, n - 2))
    return Evidence(statistic=rho, p_for=above, p_against=below, n=n)


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else math.nan
