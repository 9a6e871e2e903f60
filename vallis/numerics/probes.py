"""Random vectors, and how sure a mean over a few of them is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.rng import Rng
from vallis.core.types import Note
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Eigenpairs

Floats = NDArray[np.float64]
_SAME = 16
_FEWEST_FOR_SKEWNESS = 8


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


def band(
    low: Floats, high: Floats, level: float, least: tuple[Floats | float, Floats | float] = (0.0, 0.0)
) -> tuple[Floats, Floats]:
    """``(...)`` the ends of the interval for a mean that each of K samples ``(K, ...)`` brackets, by Student's t.

    With ``low == high`` it is the common interval of a mean. Infinite with a single sample. The standard errors of the
    lower and the upper end are taken to be no smaller than `least`.
    """
    if len(low) < 2:
        return np.full(low.shape[1:], -np.inf), np.full(low.shape[1:], np.inf)
    quantile = t_quantile(0.5 + level / 2, len(low) - 1)
    below, above = (np.maximum(standard_error(each), known) for each, known in zip((low, high), least, strict=True))
    return low.mean(0) - quantile * below, high.mean(0) + quantile * above


def same_up_to_rounding(dtype: torch.dtype) -> float:
    """How far two numbers that were computed in a dtype may be apart, relative to them, and mean the same."""
    return _SAME * torch.finfo(dtype).eps


def agree(samples: NDArray[Any], dtype: torch.dtype) -> NDArray[np.bool_]:
    """``(...)`` whether samples ``(K, ...)`` are one number, up to the rounding of the dtype they were computed in."""
    spread, size = np.ptp(samples, axis=0), np.abs(samples).max(axis=0)
    return np.asarray(spread <= same_up_to_rounding(dtype) * size)


def chance_of_agreement(num_samples: int) -> float:
    """The most likely that samples from random signs agree by luck, where not all signs would give the same.

    A polynomial of the second degree in signs that is not constant takes no value with more than a probability of 3/4
    (Schwartz and Zippel, for signs).
    """
    return 0.75 ** max(0, num_samples - 1)


def skewness_notes(samples: Floats) -> tuple[Note, ...]:
    """Says when independent samples ``(K,)`` are too skewed for an interval by their scatter alone."""
    count = len(samples)
    if count < _FEWEST_FOR_SKEWNESS or not samples.std() > 1e-12 * np.abs(samples).max():
        return ()
    centred = (samples - samples.mean()) / samples.std()
    skewness = float(np.mean(centred**3))
    # Of normal samples: D'Agostino (1970).
    spread = math.sqrt(6 * (count - 2) / ((count + 1) * (count + 3)))
    if abs(skewness) <= 2.5 * spread:
        return ()
    text = (
        f"What the probes say is skewed (skewness {skewness:.2g}), as one direction that holds much of the sum makes "
        "it, and their scatter alone says too little of their error: take the largest eigenpairs out as known."
    )
    return (Note(code="skewed_samples", text=text),)


def notes_on_known(known: Eigenpairs | None) -> tuple[Note, ...]:
    """Says when pairs that are taken as known have not converged."""
    if known is None or not len(known) or bool(known.converged.all()):
        return ()
    rough = ~known.converged
    text = (
        f"{int(rough.sum())} of {len(known)} known eigenpairs have not converged (residuals up to "
        f"{float(known.residuals[rough].max()):.2g}): what is taken to be exact of them is so only up to that."
    )
    return (Note(code="known_not_converged", text=text),)
