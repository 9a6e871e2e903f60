"""Random vectors, and how sure a mean over a few of them is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.rng import Rng
from vallis.numerics.operators import Operator

Floats = NDArray[np.float64]


def signs(operator: Operator, rng: Rng) -> torch.Tensor:
    """``(P,)`` float64 random signs; drawn on the CPU, so that they are the same for every device and dtype."""
    drawn = torch.randint(0, 2, (operator.size,), generator=rng.torch(), dtype=torch.int8)
    return drawn.to(device=operator.device, dtype=torch.float64) * 2 - 1


def sphere(operator: Operator, rng: Rng) -> torch.Tensor:
    """``(P,)`` float64 of length one, a direction without preference; the same for every device and dtype."""
    drawn = torch.randn(operator.size, generator=rng.torch(), dtype=torch.float64)
    return drawn.div(float(drawn.norm())).to(operator.device)


def without(vector: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
    """The part of a vector ``(P,)`` outside of the span of orthonormal columns ``(P, k)``."""
    return vector if known is None else vector - known @ (known.T @ vector)


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def standard_error(samples: NDArray[Any]) -> Floats:
    """``(...)`` the standard error of the mean over the first axis ``(K, ...)``; infinite with a single sample."""
    num = len(samples)
    if num < 2:
        return np.full(samples.shape[1:], np.inf)
    return np.asarray(samples.std(axis=0, ddof=1) / math.sqrt(num))


def band(low: Floats, high: Floats, level: float) -> tuple[Floats, Floats]:
    """``(...)`` the ends of the interval for a mean that each of K samples ``(K, ...)`` brackets, by Student's t.

    With ``low == high`` it is the common interval of a mean. Infinite with a single sample.
    """
    if len(low) < 2:
        return np.full(low.shape[1:], -np.inf), np.full(low.shape[1:], np.inf)
    quantile = t_quantile(0.5 + level / 2, len(low) - 1)
    return low.mean(0) - quantile * standard_error(low), high.mean(0) + quantile * standard_error(high)
