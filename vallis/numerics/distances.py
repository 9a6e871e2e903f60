"""How far one operator is from another, as a share of its size, from a few products with random vectors."""

from __future__ import annotations

import math

import numpy as np
import torch

from vallis.core.errors import SettingsError, UsageError
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.means import ratio
from vallis.numerics.operators import Operator
from vallis.numerics.probes import signs

EXACT_SIZE = 256


def relative_distance(
    operator: Operator, approximation: Operator, *, num_probes: int, rng: Rng, exact_size: int = EXACT_SIZE
) -> tuple[float, float | None]:
    """``|A - B| / |A|`` in the Frobenius norm.

    As ``E |A z|^2 = |A|^2`` for random signs z, it is the root of a ratio of two means over the same vectors.

    Args:
        operator: A.
        approximation: B, of the same size.
        num_probes: how many vectors z.
        rng: where they come from.
        exact_size: operators of at most this size are compared column by column.

    Returns:
        The distance and its standard error (linearised): 0.0 where it is exact, None with a single probe. Both are NaN
        and None where A is zero.

    Raises:
        SettingsError: no probe is asked for.
        UsageError: the sizes differ.
    """
    must_be_rng(rng)
    if num_probes < 1:
        raise SettingsError(f"at least one probe was required, num_probes={num_probes} came: raise it")
    if operator.size != approximation.size:
        raise UsageError(
            f"operators of one size were required, {operator.shape} and {approximation.shape} came: match them"
        )
    if operator.size <= exact_size:
        whole = operator.dense().double()
        size = float(whole.norm())
        return (float((whole - approximation.dense().to(whole)).norm()) / size, 0.0) if size > 0 else (math.nan, None)
    apart, squares = np.empty(num_probes), np.empty(num_probes)
    for probe in range(num_probes):
        z = signs(operator, rng.child("probe", probe))
        whole = operator.matvec(z).double()
        apart[probe] = float((whole - approximation.matvec(z).to(whole)).square().sum())
        squares[probe] = float(torch.sum(whole**2))
    square, error, _ = ratio(apart, squares)
    if not square > 0:
        return (0.0, 0.0) if square == 0 else (math.nan, None)
    return math.sqrt(square), None if error is None else error / (2 * math.sqrt(square))
