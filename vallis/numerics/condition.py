"""What LAPACK estimates of a condition number, as a number of its accuracy."""

from __future__ import annotations

import math


def condition_number(reciprocal: float) -> float:
    """The condition number to six digits, infinite where the matrix is singular to rounding.

    The estimate is seldom further off than a factor of three. Its last digits hang on where in memory LAPACK's working
    space lies, so that they would differ between two runs that are otherwise the same.

    Args:
        reciprocal: one over it, as LAPACK's xxxCON return it.
    """
    return float(f"{1 / reciprocal:.6g}") if reciprocal > 0 else math.inf
