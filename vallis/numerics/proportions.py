"""Shares of a sample and their differences, with intervals that stay honest at 0 and at 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vallis.core.types import Estimate
from vallis.numerics.means import ratio

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A share, or a difference of two.

    Attributes:
        stderr: half the width of the same interval at the level of one standard error, 68 %; never 0.
        low: the lower end of the interval that holds the true share with probability `LEVEL`.
        high: the upper end.
        n: how many draws it rests on; of a difference, the smaller number.
    """

    value: float
    stderr: float
    low: float
    high: float
    n: int

    def estimate(self, method: str) -> Estimate:
        """The share as a number of a result."""
        return Estimate(value=self.value, stderr=self.stderr, n=self.n, method=method)


def share(count: int, n: int) -> Proportion:
    """`count` of n draws, with the score interval of Wilson (1927).

    Raises:
        ValueError: there was no draw.
    """
    if n < 1:
        raise ValueError(f"at least one draw was required, n={n} came")
    low, high = _wilson(count, n, _z(LEVEL))
    near = _wilson(count, n, 1.0)
    return Proportion(value=count / n, stderr=(near[1] - near[0]) / 2, low=low, high=high, n=n)


def share_by_example(right: NDArray[np.float64], counted: NDArray[np.float64]) -> tuple[float, float | None, int]:
    """The share of right targets among those that count, by example, whose targets hang together.

    Args:
        right: ``(N,)`` how many targets of each example are right, or what share of them.
        counted: ``(N,)`` of how many.

    Returns:
        The share, its standard error and the number of examples, as `vallis.numerics.means.ratio` has them. Where all
        are right or none is, their scatter is 0 and says nothing: then the error is that of `share`.
    """
    value, stderr, n = ratio(right, counted)
    return value, share(round(value * n), n).stderr if value in (0.0, 1.0) else stderr, n


def difference(one: Proportion, other: Proportion) -> Proportion:
    """One share minus another of other draws, with the hybrid score interval of Newcombe (1998), method 10."""
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    stderr = math.hypot(one.stderr, other.stderr)
    return Proportion(value=value, stderr=stderr, low=low, high=high, n=min(one.n, other.n))


def chance_of_order(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> tuple[float, float | None]:
    """The chance that a draw of `higher` exceeds one of `lower`, ties counting half: the area under the ROC curve.

    Args:
        higher: ``(M,)``.
        lower: ``(N,)``.

    Returns:
        The Mann-Whitney estimate, and its standard error: the larger of DeLong's (1988), which is 0 where all draws of
        one side exceed all of the other, and half of the score interval of Newcombe (2006), method 5, at 68 %, which
        never is. None where one side has a single draw.

    Raises:
        ValueError: one side is empty.
    """
    m, n = len(higher), len(lower)
    if not m or not n:
        raise ValueError(f"draws on both sides were required, {m} and {n} came")
    ranks = stats.rankdata(np.concatenate([higher, lower]))
    # The share of the other side that lies below (of `higher`) or above (of `lower`) each draw.
    above = (ranks[:m] - stats.rankdata(higher)) / n
    below = 1 - (ranks[m:] - stats.rankdata(lower)) / m
    value = float(above.mean())
    if m < 2 or n < 2:
        return value, None
    scattered = math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    low, high = (_edge_of_order(value, m, n, towards) for towards in (0.0, 1.0))
    return value, float(max(scattered, (high - low) / 2))


def _edge_of_order(value: float, m: int, n: int, end: float) -> float:
    """How far towards 0 or 1 a chance of order may lie for the estimate to be one standard error from it.

    The variance at a chance t is that of Hanley and McNeil (1982) with (m + n) / 2 draws a side, as Newcombe has it.
    """
    half = (m + n) / 2 - 1

    def is_near(t: float) -> bool:
        variance = t * (1 - t) * (1 + half * (1 - t) / (2 - t) + half * t / (1 + t)) / (m * n)
        return (value - t) ** 2 <= variance

    if value == end:
        return end
    far, near = end, value + (end - value) * 1e-9  # at an estimate of exactly 1 its own variance is 0
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (far, middle) if is_near(middle) else (middle, near)
    return near


def _wilson(count: int, n: int, z: float) -> tuple[float, float]:
    p, width = count / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / width
    reach = z / width * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _z(level: float) -> float:
    return float(stats.norm.ppf(0.5 + level / 2))
