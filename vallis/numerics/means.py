"""Means of what differs between examples, with the standard error over the choice of examples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vallis.core.types import Estimate

Floats = NDArray[np.float64]


def ratio(
    numerators: Sequence[float] | Floats, denominators: Sequence[float] | Floats
) -> tuple[float, float | None, int]:
    """``R = sum a / sum b`` over n independent examples, e.g. wrong tokens and counted tokens of each.

    ``stderr = sqrt(n / (n - 1) sum (a - R b)^2) / sum b``, the linearised error of a ratio; with all b equal it is the
    common standard error of a mean.

    Args:
        numerators: a ``(N,)``.
        denominators: b ``(N,)``, not negative; examples with b = 0 do not count.

    Returns:
        R, NaN if nothing counts; its standard error, None below two examples; n.
    """
    a, b = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    a, b = a[b > 0], b[b > 0]
    n = len(b)
    if n == 0:
        return math.nan, None, 0
    value = float(a.sum() / b.sum())
    if n == 1:
        return value, None, 1
    return value, float(math.sqrt(n / (n - 1) * float(np.sum((a - value * b) ** 2))) / b.sum()), n


def minus(one: Estimate, other: Estimate, method: str) -> Estimate:
    """One number minus another that rests on other draws: errors add in squares, and the smaller n counts."""
    stderr = None if one.stderr is None or other.stderr is None else float(np.hypot(one.stderr, other.stderr))
    return Estimate(value=one.value - other.value, stderr=stderr, n=min(one.n, other.n), unit=one.unit, method=method)
