"""The spectral density of a symmetric operator: how its eigenvalues are distributed, by stochastic Lanczos quadrature.

Networks have a few large eigenvalues and a bulk near zero. One longer run from a random vector finds the large ones,
each with a residual that tells it apart from its neighbours; they are taken as they are, 1/P each, and other random
vectors see only what they leave. So the few are exact and the many are averaged, and no product is spent on edges.

Source: Lin, Saad and Yang (2016), Approximating spectral densities of large matrices; Ghorbani et al. (2019),
    section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vallis.core.errors import SettingsError
from vallis.core.progress import track
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Note
from vallis.numerics.asking import Asking, answered
from vallis.numerics.dense import symmetric
from vallis.numerics.operators import Operator, must_be_symmetric
from vallis.numerics.probes import Floats, band, notes_on_known, sphere, standard_error
from vallis.numerics.quadrature import Quadrature, Recurrence, rounding_of
from vallis.numerics.spectra import Eigenpairs

EXACT_SIZE = 256
# A node has converged to one eigenvalue when its residual is this small beside the gap to its neighbours, and when its
# weight is not too large for one: that is a square of a normal number over P, above 20 / P once in 10^5.
_RESIDUAL_OVER_GAP, _WEIGHT_TIMES_SIZE = 1e-2, 20.0
_KNOWN_BYTES = 2**29


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """A curve, and the ends of its pointwise confidence interval, each ``(G,)``; without one probe more, infinite."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Density:
    """The eigenvalues of an operator as known ones and a distribution of the rest.

    Attributes:
        size: P.
        known: ``(k,)`` falling: eigenvalues that are known one by one; all P of them where the operator is small.
        residuals: ``(k,)``: within this of each there is an eigenvalue, up to rounding.
        rounding: eigenvalues that are closer than this are not told apart by the arithmetic of the operator.
        converged: ``(k,)`` bool; False only for pairs that the caller gave as known and that had not converged.
        vectors: ``(P, k)`` their eigenvectors; None where the operator was written out, or there are none.
        bulk: K views of the other P - k eigenvalues, one a probe; empty where there are none.
        change: by how much the last quarter of the steps moved the distribution, as their `distance`: small where more
            steps would change little. Where rounding ends the steps, it is what they have left open.
        num_products: how many products with the operator it took.
        notes: what else there is to say.
    """

    size: int
    known: Floats
    residuals: Floats
    rounding: float
    converged: np.ndarray[Any, np.dtype[np.bool_]]
    vectors: torch.Tensor | None
    bulk: tuple[Quadrature, ...]
    change: float
    num_products: int
    notes: tuple[Note, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether all eigenvalues are known."""
        return len(self.known) == self.size

    @property
    def pairs(self) -> Eigenpairs | None:
        """The known eigenvalues with their vectors, for what takes them out; None where there are no vectors."""
        if self.vectors is None:
            return None
        vectors = self.vectors.double()
        return Eigenpairs(values=self.known, vectors=vectors, residuals=self.residuals, converged=self.converged)

    @property
    def bulk_fraction(self) -> float:
        """The share of the eigenvalues that are not known one by one."""
        return 1.0 - len(self.known) / self.size

    @property
    def edges(self) -> tuple[float, float]:
        """The smallest and the largest eigenvalue that was seen; the true ones lie at or beyond them."""
        values = np.concatenate([self.known, *(seen.nodes for seen in self.bulk)])
        return float(values.min()), float(values.max())

    @property
    def scale(self) -> float:
        """The largest magnitude of an eigenvalue."""
        return max(abs(end) for end in self.edges)

    def measure(self) -> tuple[Floats, Floats]:
        """Values and weights, which sum to one: the whole as a discrete distribution."""
        share = self.bulk_fraction / max(1, len(self.bulk))
        values = np.concatenate([self.known, *(seen.nodes for seen in self.bulk)])
        known = np.full(len(self.known), 1.0 / self.size)
        return values, np.concatenate([known, *(share * seen.weights for seen in self.bulk)])

    def moment(self, degree: int) -> tuple[float, float]:
        """``tr(A^degree) / P`` and its standard error over the probes; infinite with a single one, 0.0 when exact.

        Intervals of 95 % by Student's t cover the truth in 93 to 100 % (degrees 1 to 4; six spectra, P = 1000, with and
        without a search, 3 and 10 probes, 400 seeds each). Of an even degree above ``m - 1`` steps the error is told
        too small by what m steps leave open of ``A^(2 degree)``.
        """
        certain = float(np.sum(self.known**degree)) / self.size
        if not self.bulk:
            return certain, 0.0
        samples = np.array([seen.moment(degree) for seen in self.bulk])
        mean = float(samples.mean())
        variance = np.mean([seen.weights @ (seen.nodes**degree - mean) ** 2 for seen in self.bulk])
        stderr = max(float(standard_error(samples)), float(self.scatter(variance)))
        return certain + self.bulk_fraction * mean, self.bulk_fraction * stderr

    def cumulative(self, points: Floats | Sequence[float], level: float = 0.95) -> Band:
        """``(G,)`` the share of eigenvalues up to each point.

        The band covers both the choice of probes and what so few steps leave open of each probe's distribution: a band
        of 95 % holds the truth at any one point in 95 to 100 % (six spectra, P = 1000, with and without a search, 3 and
        10 probes, 400 seeds each; 95 to 97 % beside one outlier that no search took out, else 97 % and more). An
        eigenvalue that equals a point up to rounding (or, of the known ones, up to its residual) counts as reached,
        and the band leaves open whether it is.
        """
        points = np.asarray(points, dtype=np.float64)
        certain, least, most = (self._known_up_to(points, side) for side in (0, -1, 1))
        if not self.bulk:
            return Band(value=certain, low=least, high=most)
        bounds = np.array([seen.cumulative(points, self.rounding) for seen in self.bulk])
        value = certain + self.bulk_fraction * np.mean([s.reached(points, self.rounding) for s in self.bulk], axis=0)
        low, high = (
            self.bulk_fraction * np.clip(end, 0.0, 1.0) for end in self._band(bounds[:, 0], bounds[:, 1], level)
        )
        return Band(value=value, low=least + low, high=most + high)

    def fraction_within(self, radius: float, level: float = 0.95) -> tuple[float, float, float]:
        """The share of eigenvalues of magnitude up to the radius, and the ends of its interval; see `cumulative`."""
        away, blur = np.abs(self.known), self.residuals + self.rounding
        within = (away <= radius + self.rounding, away + blur <= radius, away - blur <= radius)
        certain, least, most = (float(np.sum(each)) / self.size for each in within)
        if not self.bulk:
            return certain, least, most
        # What equals the lower end up to rounding lies inside, as a value, and may lie outside, for the bounds.
        ends = np.array([-radius, radius])
        bounds = np.array([seen.cumulative(ends, self.rounding) for seen in self.bulk])  # (K, below or above, end)
        low, high = self._band(bounds[:, 0, 1] - bounds[:, 1, 0], bounds[:, 1, 1] - bounds[:, 0, 0], level)
        inside = np.mean(
            [
                s.reached(ends[1:], self.rounding)[0] - s.reached(ends[:1], self.rounding, inclusive=False)[0]
                for s in self.bulk
            ]
        )
        share = [self.bulk_fraction * float(np.clip(each, 0.0, 1.0)) for each in (inside, low, high)]
        return certain + share[0], least + share[1], most + share[2]

    def _band(self, low: Floats, high: Floats, level: float) -> tuple[Floats, Floats]:
        """``(G,)`` the ends of the interval for a share that lies between bounds ``(K, G)`` for each probe."""
        least, most = (np.clip(each.mean(0), 0.0, 1.0) for each in (low, high))
        return band(low, high, level, (self.scatter(least * (1 - least)), self.scatter(most * (1 - most))))

    def scatter(self, variance: Floats | np.floating[Any]) -> Floats:
        """The standard error of the mean of ``q' f q`` over the probes q, from the variance of f over the eigenvalues.

        For q uniform on the sphere of n dimensions that of one probe is ``2 / (n + 2)`` times that variance. A few
        probes tell their own scatter badly where one eigenvalue lies far from all others, and the variance well.
        """
        return np.asarray(np.sqrt(2 / (self.size - len(self.known) + 2) * variance / len(self.bulk)))

    def _known_up_to(self, points: Floats, side: int) -> Floats:
        """``(G,)`` the share of known eigenvalues: what it is said to be (0), and its least (-1) and most (1)."""
        blur = -self.rounding if side == 0 else -side * (self.residuals + self.rounding)
        ranked = np.sort(self.known + blur)
        return np.searchsorted(ranked, points, side="right") / self.size


def spectral_density(
    operator: Operator,
    *,
    num_probes: int,
    num_steps: int,
    rng: Rng,
    num_search_steps: int | None = None,
    known: Eigenpairs | None = None,
    exact_size: int = EXACT_SIZE,
) -> Density:
    """The distribution of all P eigenvalues, by ``num_search_steps + num_probes num_steps`` products at most.

    Args:
        operator: A; it must be symmetric.
        num_probes: K, how many random vectors; one has no error band.
        num_steps: m, products with each; polynomials of the bulk up to degree 2m - 1 are integrated exactly.
        rng: where the vectors come from.
        num_search_steps: products with one more vector, which finds the eigenvalues that stand alone; twice
            `num_steps` unless it is said, 0 for no search.
        known: converged eigenpairs, which the search need not find again; a note says if some have not converged,
            because each counts as an eigenvalue all the same.
        exact_size: an operator of at most this size is written out and solved.

    Raises:
        SettingsError: no probe or no step is asked for, or a negative search.
        UsageError: the operator promises no symmetry, or a product is not finite.
    """
    return answered(
        spreading(
            operator,
            num_probes=num_probes,
            num_steps=num_steps,
            rng=rng,
            num_search_steps=num_search_steps,
            known=known,
            exact_size=exact_size,
        )
    )


def spreading(
    operator: Operator,
    *,
    num_probes: int,
    num_steps: int,
    rng: Rng,
    num_search_steps: int | None = None,
    known: Eigenpairs | None = None,
    exact_size: int = EXACT_SIZE,
) -> Asking[Density]:
    """What `spectral_density` does, as what asks for its products; see there."""
    must_be_rng(rng)
    search = 2 * num_steps if num_search_steps is None else num_search_steps
    if min(num_probes, num_steps) < 1 or search < 0:
        raise SettingsError(
            f"at least one probe and one step were required, num_probes={num_probes}, num_steps={num_steps}, "
            f"num_search_steps={search} came: raise them"
        )
    must_be_symmetric(operator)
    if operator.size <= exact_size:
        return (yield from _exact(operator))
    before = operator.num_products
    found, rounding = _Known.of(known), 0.0
    if search:
        # What this vector sees of the rest is not used: where it overlaps much with an eigenvector, that one converges
        # and is taken out, so what is left would be too little on average.
        first = Recurrence(operator, sphere(operator, rng.child("search")), search, found.vectors)
        yield from first.running(search)
        found, rounding = found.joined(first, operator.size), first.rounding
    bulk, changes = [], []
    for probe in track(range(num_probes), "density", num_probes):
        start, scale = sphere(operator, rng.child("probe", probe)), float(np.abs(found.values).max(initial=0.0))
        run = Recurrence(operator, start, num_steps, found.vectors, scale=scale)
        yield from run.running(num_steps)
        bulk.append(run.quadrature())
        changes.append(_change(run))
        rounding = max(rounding, run.rounding)
    order = np.argsort(found.values)[::-1].copy()
    return Density(
        size=operator.size,
        known=found.values[order],
        residuals=found.residuals[order],
        rounding=max(rounding, rounding_of(operator, found.values)),
        converged=found.converged[order],
        vectors=None if found.vectors is None else found.vectors[:, torch.from_numpy(order)],
        bulk=tuple(seen for seen in bulk if len(seen)),
        change=float(np.mean(changes)) * (1 - len(order) / operator.size),
        num_products=operator.num_products - before,
        notes=notes_on_known(known),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Known:
    """Eigenpairs that stand alone: ``(k,)`` each, and their vectors ``(P, k)``; None for no pair."""

    values: Floats
    residuals: Floats
    converged: np.ndarray[Any, np.dtype[np.bool_]]
    vectors: torch.Tensor | None

    @staticmethod
    def of(pairs: Eigenpairs | None) -> _Known:
        if pairs is None or not len(pairs):
            return _Known(values=np.empty(0), residuals=np.empty(0), converged=np.empty(0, dtype=bool), vectors=None)
        return _Known(values=pairs.values, residuals=pairs.residuals, converged=pairs.converged, vectors=pairs.vectors)

    def joined(self, run: Recurrence, size: int) -> _Known:
        """With the pairs that a run has found beside these."""
        seen = run.quadrature()
        alone = _alone(seen, size)
        vectors = run.vectors(np.flatnonzero(alone)) if alone.any() else None
        if vectors is None:
            return self
        return _Known(
            values=np.concatenate([self.values, seen.nodes[alone]]),
            residuals=np.concatenate([self.residuals, seen.residuals[alone]]),
            converged=np.concatenate([self.converged, np.ones(int(alone.sum()), dtype=bool)]),
            vectors=vectors if self.vectors is None else torch.cat([self.vectors.to(vectors), vectors], dim=1),
        )


def distance(one: Density | Floats, other: Density | Floats) -> float:
    """The first Wasserstein distance of two distributions of eigenvalues: the mean way that one has to be moved.

    Args:
        one: a density, or ``(P,)`` all eigenvalues.
        other: the same of another.
    """
    from scipy.stats import wasserstein_distance

    values, weights = _as_measure(one)
    other_values, other_weights = _as_measure(other)
    return float(wasserstein_distance(values, other_values, weights, other_weights))


def _alone(seen: Quadrature, size: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """``(m,)`` which nodes have converged to a single eigenvalue."""
    gap = np.minimum(np.diff(seen.nodes, prepend=-np.inf), np.diff(seen.nodes, append=np.inf))
    # Nodes that rounding does not tell apart are copies of one, and what none of them shows may lie between them.
    converged = (seen.residuals <= _RESIDUAL_OVER_GAP * gap) & (gap > 10 * seen.rounding)
    alone = np.asarray(converged & (seen.weights <= _WEIGHT_TIMES_SIZE / size))
    # Each is a vector to keep: the outermost ones tell most.
    room = max(1, _KNOWN_BYTES // (4 * size))
    if alone.sum() > room:
        kept = np.flatnonzero(alone)[np.argsort(-np.abs(seen.nodes[alone]))[:room]]
        alone = np.isin(np.arange(len(seen)), kept)
    return alone


def _change(run: Recurrence) -> float:
    """How far the last quarter of a run's steps moved what it sees."""
    from scipy.stats import wasserstein_distance

    if run.ended:
        return run.remainder if run.size else 0.0
    if run.size < 2:
        return 0.0
    seen, before = run.quadrature(), run.quadrature(max(1, run.size * 3 // 4))
    return float(wasserstein_distance(seen.nodes, before.nodes, seen.weights, before.weights))


def _as_measure(found: Density | Floats) -> tuple[Floats, Floats]:
    if isinstance(found, Density):
        return found.measure()
    return np.asarray(found, dtype=np.float64), np.full(len(found), 1.0 / len(found))


def _exact(operator: Operator) -> Asking[Density]:
    values = torch.linalg.eigvalsh((yield from symmetric(operator))).cpu().numpy()[::-1]
    return Density(
        size=operator.size,
        known=values.copy(),
        residuals=np.zeros(operator.size),
        rounding=rounding_of(operator, values),
        converged=np.ones(operator.size, dtype=bool),
        vectors=None,
        bulk=(),
        change=0.0,
        num_products=operator.size,
    )
