"""An operator in two parts: a cheap one that holds nearly all of it, and the rest.

Whoever looks for eigenvectors finds nearly the right ones with the cheap part alone, and then pays for the rest once
for each of them.
"""

from __future__ import annotations

from vallis.core.errors import UsageError
from vallis.numerics.operators import Operator, Sum


class Parts(Sum):
    """``A = most + rest``.

    Args:
        most: the part that holds nearly all of A.
        rest: what it leaves.
        cost_fraction: how much of the cost of a product with A the first part takes, in (0, 1).

    Raises:
        UsageError: the fraction lies outside of (0, 1), or the parts do not fit together.
    """

    def __init__(self, most: Operator, rest: Operator, cost_fraction: float) -> None:
        super().__init__(most, rest)
        if not 0 < cost_fraction < 1:
            raise UsageError(
                f"a fraction between 0 and 1 was required, cost_fraction={cost_fraction} came: "
                "say how much of a product the first part costs"
            )
        self.most, self.rest = most, rest
        self.cost_fraction = cost_fraction
