"""The volume of a star-shaped body in n dimensions from its radii in random directions, in logarithms throughout.

``V = omega_n E[w r^n]`` over directions with weights w (1 where they are uniform), ``omega_n = pi^(n/2) / Gamma(1 +
n/2)``. The estimate has the right mean for every n, and for a large n no use of that: r^n is then so skewed that one
ray, the longest, holds nearly all of the sum, and the rays that would hold more have not been met. The effective sample
size says so. The *typical* log-volume ``log omega_n + E[n log r + log w]`` lies below the truth (Jensen), is a plain
mean, and has an error bar for every n.

Source: Huang et al. (2020), section 4 (the volume); Kong (1992) (the effective sample size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vallis.core.errors import SettingsError, UsageError
from vallis.core.rng import Rng, must_be_rng

Floats = NDArray[np.float64]
# Below this many effective rays neither an error bar nor an interval means anything (see docs/landscape.md).
FEWEST_EFFECTIVE = 30.0
_NUMBERS_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True)
class LogVolume:
    """A volume in nats.

    Attributes:
        value: ``log V``; minus infinity where all radii are 0.
        stderr: its standard error over the choice of rays; None where the effective sample size is too small for one.
        interval: the bootstrap interval of the value, whether it means something or not.
        level: of the interval.
        typical: ``log omega_n + mean(n log r + log w)``, a lower bound in the mean.
        typical_stderr: its standard error; None for a single ray.
        effective_sample_size: ``(sum x)^2 / sum x^2`` of ``x = w r^n``: about how many rays the value rests on.
        spread: the standard deviation of the logarithms ``n log r + log w`` of single rays; None for a single ray.
        num_rays: K.
        is_resolved: whether enough rays share the sum for error bar and interval to mean something.
    """

    value: float
    stderr: float | None
    interval: tuple[float, float]
    level: float
    typical: float
    typical_stderr: float | None
    effective_sample_size: float
    spread: float | None
    num_rays: int
    is_resolved: bool


@dataclass(frozen=True, kw_only=True)
class LogRatio:
    """How many times larger one volume is than another.

    Attributes:
        value: ``log10 V_one - log10 V_other``.
        interval: its bootstrap interval over rays, drawn anew for both together where they are paired.
        typical: the difference of the typical log10-volumes.
        typical_stderr: its standard error; None for a single ray.
        is_resolved: whether both volumes are.
    """

    value: float
    interval: tuple[float, float]
    typical: float
    typical_stderr: float | None
    is_resolved: bool


def log_ball_volume(num_dimensions: int, log_radius: float = 0.0) -> float:
    """``log(omega_n r^n)`` of a ball in n dimensions; for an ellipsoid, with the mean log of its half-axes."""
    half = num_dimensions / 2
    return half * math.log(math.pi) - math.lgamma(1 + half) + num_dimensions * log_radius


def log_mean_exp(terms: Floats, axis: int = -1) -> Floats:
    """``log mean exp`` along an axis, without overflow; minus infinity counts as a zero."""
    most = terms.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        found: Floats = np.log(np.exp(terms - shift).mean(axis=axis)) + shift.squeeze(axis)
    return found


def log_volume(
    log_radii: Sequence[float] | Floats,
    num_dimensions: int,
    *,
    rng: Rng,
    log_weights: Sequence[float] | Floats | None = None,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> LogVolume:
    """The volume of a body from its radii in K directions.

    Args:
        log_radii: ``(K,)`` natural logarithms; minus infinity for a radius of 0, which counts as a ray.
        num_dimensions: n.
        rng: resamples the rays for the interval.
        log_weights: ``(K,)`` of directions that are not uniform, see `vallis.numerics.rays`; 0 if None.
        level: of the interval.
        num_resamples: how many bootstrap samples it is made of.

    Raises:
        UsageError: there is no ray, or a logarithm is NaN or plus infinity, or weights of another number.
        SettingsError: a level outside of (0, 1), or not even one resample.
    """
    must_be_rng(rng)
    terms = _terms(log_radii, num_dimensions, log_weights)
    _must_make_sense(level, num_resamples)
    value = float(log_mean_exp(terms))
    is_resolved, error = _is_resolved(terms), _standard_error(terms)
    draws = _resampled(terms[None], rng, num_resamples)[0]
    low, high = _quantiles(draws, level)
    return LogVolume(
        value=value,
        stderr=_relative_error(terms, value) if is_resolved else None,
        interval=(low, high),
        level=level,
        typical=float(terms.mean()),
        typical_stderr=error,
        effective_sample_size=effective_sample_size(terms),
        spread=None if error is None else error * math.sqrt(len(terms)),
        num_rays=len(terms),
        is_resolved=is_resolved,
    )


def log_volume_ratio(
    one: Sequence[float] | Floats,
    other: Sequence[float] | Floats,
    num_dimensions: int,
    *,
    rng: Rng,
    log_weights: tuple[Floats, Floats] | None = None,
    is_paired: bool = True,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> LogRatio:
    """``log10`` of the ratio of two volumes in the same n dimensions, whose constant factor cancels.

    Args:
        one: ``(K,)`` logarithms of the radii of the first body.
        other: ``(K,)`` of the second, in the same directions if they are paired.
        num_dimensions: n, for both.
        rng: resamples the rays.
        log_weights: of both; 0 if None.
        is_paired: whether ray k has the same direction in both, which makes the interval narrower.
        level: of the interval.
        num_resamples: how many bootstrap samples it is made of.

    Raises:
        UsageError: see `log_volume`; or paired rays that are not equally many; or a body without volume.
        SettingsError: see `log_volume`.
    """
    must_be_rng(rng)
    weights = (None, None) if log_weights is None else log_weights
    first, second = (_terms(radii, num_dimensions, weight) for radii, weight in zip((one, other), weights, strict=True))
    _must_make_sense(level, num_resamples)
    if is_paired and len(first) != len(second):
        raise UsageError(
            f"as many rays in both were required for pairs, {len(first)} and {len(second)} came: say is_paired=False"
        )
    if not (np.isfinite(first).any() and np.isfinite(second).any()):
        raise UsageError("two bodies with a volume were required, one whose radii are all 0 came: raise its cutoff")
    if is_paired:
        draws = _resampled(np.stack([first, second]), rng, num_resamples)
        typical, error = _mean_and_error(first - second)
    else:
        streams = (rng.child("one"), rng.child("other"))
        drawn = zip((first, second), streams, strict=True)
        draws = np.stack([_resampled(terms[None], stream, num_resamples)[0] for terms, stream in drawn])
        typical = float(first.mean() - second.mean())
        errors = [_standard_error(terms) for terms in (first, second)]
        error = None if None in errors else math.hypot(*[each for each in errors if each is not None])
    with np.errstate(invalid="ignore"):
        low, high = _quantiles((draws[0] - draws[1]) / math.log(10), level)
    return LogRatio(
        value=float(log_mean_exp(first) - log_mean_exp(second)) / math.log(10),
        interval=(low, high),
        typical=typical / math.log(10),
        typical_stderr=None if error is None else error / math.log(10),
        is_resolved=_is_resolved(first) and _is_resolved(second),
    )


def effective_sample_size(terms: Floats) -> float:
    """``(sum x)^2 / sum x^2`` for logarithms of x ``(K,)``; 0 where all x are 0."""
    most = float(terms.max())
    if not math.isfinite(most):
        return 0.0
    shares = np.exp(terms - most)
    return float(shares.sum() ** 2 / np.square(shares).sum())


def _is_resolved(terms: Floats) -> bool:
    """Whether an error bar means something, by two counts of effective rays.

    The sample's own count is high just where the longest rays were not met. So the one that normally distributed
    logarithms of this spread would have, ``K exp(-spread^2)``, must be high enough, too.
    """
    spread = float(terms.std(ddof=1)) if len(terms) > 1 and np.isfinite(terms).all() else math.inf
    return min(effective_sample_size(terms), len(terms) * math.exp(-(min(spread, 1e3) ** 2))) >= FEWEST_EFFECTIVE


def _terms(
    log_radii: Sequence[float] | Floats, num_dimensions: int, log_weights: Sequence[float] | Floats | None
) -> Floats:
    """``(K,)`` the logarithms of what is averaged, the volume of the unit ball included."""
    radii = np.asarray(log_radii, dtype=np.float64)
    weights = np.zeros_like(radii) if log_weights is None else np.asarray(log_weights, dtype=np.float64)
    if radii.ndim != 1 or not len(radii) or weights.shape != radii.shape:
        raise UsageError(
            f"at least one ray and a weight for each were required, radii {radii.shape} and weights {weights.shape} "
            "came: give two vectors of one length"
        )
    if np.isnan(radii).any() or np.isnan(weights).any() or (radii == np.inf).any():
        raise UsageError("finite radii were required, NaN or infinity came: cap them")
    return log_ball_volume(num_dimensions) + num_dimensions * radii + weights


def _resampled(terms: Floats, rng: Rng, num_resamples: int) -> Floats:
    """``(bodies, B)`` log means of rays ``(bodies, K)`` that are drawn again, the same for all bodies."""
    num_rays = terms.shape[1]
    generator = rng.child("bootstrap").numpy()
    found = np.empty((len(terms), num_resamples))
    step = max(1, _NUMBERS_AT_ONCE // num_rays)
    for start in range(0, num_resamples, step):
        chosen = generator.integers(num_rays, size=(min(step, num_resamples - start), num_rays))
        for place, body in enumerate(terms):
            found[place, start : start + step] = log_mean_exp(body[chosen])
    return found


def _quantiles(draws: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], method="inverted_cdf")
    return float(low), float(high)


def _relative_error(terms: Floats, value: float) -> float | None:
    """The standard error of the log of a mean: that of the mean, relative to it."""
    return _standard_error(np.exp(terms - value))


def _mean_and_error(values: Floats) -> tuple[float, float | None]:
    return float(values.mean()), _standard_error(values)


def _standard_error(values: Floats) -> float | None:
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _must_make_sense(level: float, num_resamples: int) -> None:
    if not 0 < level < 1 or num_resamples < 1:
        raise SettingsError(
            f"a level in (0, 1) and at least one resample were required, {level} and {num_resamples} came: change them"
        )
