"""How large a probability can be that lies within a given divergence of an observed one: the inverse of the binary KL.

Source: Langford and Caruana (2001), (Not) bounding the true error; Dziugaite and Roy (2017), section 2.2.
"""

from __future__ import annotations

import math

from vallis.core.errors import SettingsError

_TOLERANCE = 1e-13
_ROUNDING = 4e-16  # of a divergence


def binary_divergence(q: float, p: float) -> float:
    """``kl(q || p) = q log(q/p) + (1-q) log((1-q)/(1-p))`` in nats, between two coins; infinite where p excludes q."""
    from scipy.special import rel_entr

    return float(rel_entr(q, p) + rel_entr(1 - q, 1 - p))


def kl_inverse(q: float, divergence: float) -> float:
    """The largest p in [q, 1] with ``kl(q || p) <= divergence``, rounded up.

    With an observed error q over m examples, of which ``m kl(q || p)`` is bounded with high probability, the true
    error p is at most this.

    Args:
        q: in [0, 1].
        divergence: at least 0, in nats; infinite allows everything.

    Raises:
        SettingsError: q is no probability, or the divergence is negative or NaN.
    """
    if not 0 <= q <= 1 or not divergence >= 0:
        raise SettingsError(
            f"a probability and a divergence of at least 0 were required, {q} and {divergence} came: check both"
        )
    if divergence == 0 or q == 1:
        return float(q)
    if q == 0:
        # In closed form, but rounded to the nearest number, which may lie below: the next one does not.
        return min(1.0, math.nextafter(-math.expm1(-divergence), 1.0))
    if binary_divergence(q, 1 - _TOLERANCE) <= divergence + _ROUNDING:
        return 1.0
    from scipy.optimize import brentq

    allowed = divergence + _ROUNDING
    root = brentq(lambda p: binary_divergence(q, p) - allowed, q, 1 - _TOLERANCE, xtol=_TOLERANCE, rtol=4e-15)
    return float(min(1.0, root + 2 * _TOLERANCE))
