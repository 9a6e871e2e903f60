"""What a symmetric operator's spectrum looks like from one vector: Gauss quadrature by the Lanczos recurrence.

For a start vector q of length one, ``q' f(A) q`` is the integral of f over the spectrum, each eigenvalue weighted by
the squared overlap of its eigenvector with q. Every step of the recurrence costs one product; m steps give m nodes and
weights that integrate polynomials up to degree 2m - 1 exactly, and at each node bracket the cumulative weights.

Source: Golub and Meurant (2010), Matrices, moments and quadrature with applications, chapters 3 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import SettingsError
from vallis.numerics.asking import Asking, answered
from vallis.numerics.operators import Operator, must_be_symmetric
from vallis.numerics.spectra import must_be_finite, must_have_been_symmetric

Floats = NDArray[np.float64]
_ROW_BYTES = 2**30
# Beside the largest product so far: what is left of a product is noise at or below the first, and nodes are moved by
# rounding by up to the second, in units of the dtype's eps; float64 has room to spare for products that are less exact.
_NOISE, _ROUNDING = (2.0, 2e-14), (4.0, 1e-14)
_BELOW = 1e-12  # of the largest Ritz value: a distance that float64 resolves
_NUM_BREAKS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Quadrature:
    """Nodes and weights that stand for the spectrum as one vector sees it.

    Attributes:
        nodes: ``(m,)`` rising: the Ritz values.
        weights: ``(m,)``, not negative; they sum to one.
        residuals: ``(m,)``: within this of a node there is an eigenvalue, up to rounding.
        complete: the recurrence came to its end, so that all functions are integrated exactly, up to rounding.
        rounding: eigenvalues that are closer than this are not told apart by the arithmetic of the operator.
    """

    nodes: Floats
    weights: Floats
    residuals: Floats
    complete: bool
    rounding: float

    def __len__(self) -> int:
        return len(self.nodes)

    def moment(self, degree: int) -> float:
        """``q' A^degree q``."""
        return float(self.weights @ self.nodes**degree)

    def reached(self, points: Floats, rounding: float = 0.0, inclusive: bool = True) -> Floats:
        """``(G,)`` the weight of the nodes up to each point; see `cumulative` for what is sure of it.

        A node that equals the point up to rounding, and no other, counts in full if it is an eigenvalue (also up to
        rounding; not at all where the point itself is not meant), else by half, the middle of its bounds.
        """
        slack, sums = max(rounding, self.rounding), self._sums()
        under, over, far_under, far_over = (
            np.searchsorted(self.nodes, points + times * slack, side="right") for times in (-1, 1, -10, 10)
        )
        converged = np.concatenate([[0.0], np.cumsum(np.where(self.residuals <= slack, self.weights, 0.0))])
        at_point = (converged[over] - converged[under]) * (1 if inclusive else -1)
        nearest = sums[np.searchsorted(self.nodes, points, side="right" if inclusive else "left")]
        single = (far_under == under) & (far_over == over)
        return np.asarray(np.where(single, (sums[under] + sums[over] + at_point) / 2, nearest))

    def cumulative(self, points: Floats, rounding: float = 0.0) -> tuple[Floats, Floats]:
        """``(G,)`` bounds, below and above, of the weight of the eigenvalues up to each point.

        They hold for the true spectrum, not only for the nodes (the Chebyshev-Markov-Stieltjes inequalities): at a node
        the weight so far lies between the sums without and with that node's own. Where all nodes on one side of a point
        have small residuals beside their distance to it, little of their weight can lie on the other side (the sine
        theorem of Davis and Kahan), and the tighter bound is taken. An eigenvalue that equals a point up to rounding
        may be counted or not, and the bounds leave room for both.

        Args:
            points: ``(G,)``.
            rounding: of the operator, where it is known to be more than this vector has seen.
        """
        slack = max(rounding, self.rounding)
        sums = self._sums()
        under, over = (np.searchsorted(self.nodes, points + end, side="right") for end in (-slack, slack))
        if self.complete:
            return sums[under], sums[over]
        at_node = over > under
        below = sums[np.where(at_node, under, np.maximum(under - 1, 0))]
        above = sums[np.where(at_node, over, np.minimum(over + 1, len(self)))]
        low, high = self._by_residuals(points, slack)
        low = np.maximum(below, low)
        return low, np.maximum(low, np.minimum(above, high))

    def staircase(self) -> tuple[Floats, Floats, Floats]:
        """Breaks ``(B,)``, and bounds ``(B + 1,)`` of the cumulative weights that hold between each two of them."""
        gaps = np.diff(self.nodes, prepend=-np.inf, append=np.inf)
        widest = np.minimum(gaps[:-1], gaps[1:])
        slack = 1.001 * max(self.rounding, 1e-15 * float(np.abs(self.nodes).max()), 1e-290)
        # From the rounding of each node to half of the way to the next: finely where little else is open.
        widest = np.where(np.isfinite(widest), np.maximum(widest / 2, slack), 1e9 * slack)
        offsets = slack * (widest[:, None] / slack) ** np.linspace(0.0, 1.0, _NUM_BREAKS)
        breaks = np.unique(np.concatenate([(self.nodes[:, None] + sign * offsets).ravel() for sign in (-1.0, 1.0)]))
        low, high = self.cumulative(breaks)
        below = np.concatenate([[0.0], np.maximum.accumulate(low)])
        above = np.concatenate([np.minimum.accumulate(high[::-1])[::-1], [1.0]])
        return breaks, below, above

    def _sums(self) -> Floats:
        return np.asarray(np.minimum(np.concatenate([[0.0], np.cumsum(self.weights)]), 1.0))

    def _by_residuals(self, points: Floats, slack: float) -> tuple[Floats, Floats]:
        """``(G,)`` what can lie on the other side of a point, at most: lengths of residuals over distances."""
        place = np.searchsorted(self.nodes, points, side="right")
        nodes = np.concatenate([[-np.inf], self.nodes, [np.inf]])
        lengths, squares = self._sums(), np.concatenate([[0.0], np.cumsum(self.residuals**2)])

        def side(weight: Floats, square: Floats, away: Floats) -> tuple[Floats, Floats]:
            weight = np.clip(weight, 0.0, 1.0)
            length = np.sqrt(np.maximum(square, 0.0)) + slack
            return np.sqrt(weight), length / np.maximum(np.maximum(away, length), 1e-300) * np.sqrt(weight)

        below, lost = side(lengths[place], squares[place], points - nodes[place])
        above, came = side(1.0 - lengths[place], squares[-1] - squares[place], nodes[place + 1] - points)
        least = np.maximum(np.sqrt(np.maximum(below**2 - lost**2, 0.0)) - came, 0.0) ** 2
        beyond = np.maximum(np.sqrt(np.maximum(above**2 - came**2, 0.0)) - lost, 0.0) ** 2
        return least, 1.0 - beyond


class Recurrence:
    """The Lanczos recurrence from one vector, step by step, with full reorthogonalisation.

    The rows are held in the operator's dtype. Beyond `row_bytes` of them, a new row is made orthogonal to those held
    and to the last two alone: those held carry the eigenvectors that have converged, along which orthogonality is lost.

    Args:
        operator: A.
        start: ``(P,)`` where it begins; its length does not matter.
        num_steps: the most steps there will be.
        known: ``(P, k)`` orthonormal eigenvectors that are left out: A is seen on what is orthogonal to them.
        row_bytes: the memory for rows.
        scale: the largest magnitude of an eigenvalue that is known, beside which products may be nothing but rounding.

    Attributes:
        size: m, how many steps were made.
        complete: nothing is left to follow: the rows span the whole space, or an invariant one without any remainder.
        ended: complete, or only rounding is left to follow; what it hides stays open, so that no bound is closed.

    Raises:
        SettingsError: no step is allowed.
        UsageError: the operator promises no symmetry.
    """

    def __init__(
        self,
        operator: Operator,
        start: torch.Tensor,
        num_steps: int,
        known: torch.Tensor | None = None,
        row_bytes: int = _ROW_BYTES,
        scale: float = 0.0,
    ) -> None:
        must_be_symmetric(operator)
        if num_steps < 1:
            raise SettingsError(f"at least one step was required, num_steps={num_steps} came: raise it")
        self.operator = operator
        self.size = 0
        room = max(2, row_bytes // (operator.size * operator.dtype.itemsize))
        shape = (min(num_steps, operator.size, room), operator.size)
        self._rows = torch.empty(shape, dtype=operator.dtype, device=operator.device)
        self._known = None if known is None else known.to(self._rows)
        self._room = operator.size - (0 if known is None else known.shape[1])
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._scale = scale
        first = self._outside(self._outside(start.to(self._rows) / float(start.norm())))
        length = _length(first)
        # What lies in the span of the known ones altogether sees nothing of the rest.
        self.complete = self.ended = self._room <= 0 or not length > 100 * torch.finfo(operator.dtype).eps
        self._newest, self._before = first / length, torch.zeros_like(first)

    def run(self, num_steps: int) -> Recurrence:
        """Makes so many steps, or fewer where it ends."""
        return answered(self.running(num_steps))

    def running(self, num_steps: int) -> Asking[Recurrence]:
        """So many steps, or fewer where it ends, as what asks for their products."""
        for _ in range(num_steps):
            if self.ended:
                break
            yield from self.asking()
        return self

    def step(self) -> None:
        """One product."""
        answered(self.asking())

    def asking(self) -> Asking[None]:
        """One step, as what asks for its product."""
        vector, before = self._newest, self._before
        if self.size < len(self._rows):
            self._rows[self.size] = vector
        product = yield self.operator, vector
        norm = _length(product)
        must_be_finite(norm)
        self._scale = max(self._scale, norm)
        here = float(vector.double() @ product.double())
        rest = product - here * vector - (self._beside[-1] if self._beside else 0.0) * before
        self._diagonal.append(here)
        self.size += 1
        self._must_have_been_symmetric(product)
        rest = self._outside(rest)
        length = _length(rest)
        if length < 1e-2 * norm:  # what was taken away is large beside what is left, so is its rounding
            rest = self._outside(rest)
            length = _length(rest)
        self._beside.append(length)
        self.complete = self.size == self._room or length == 0.0
        self.ended = self.complete or length <= _beside(self.operator, _NOISE) * self._scale
        if not self.ended:
            self._before, self._newest = vector, rest / length

    def _must_have_been_symmetric(self, product: torch.Tensor) -> None:
        """Compares what the product says of the rows before with what their products said of this one."""
        if not 2 <= self.size <= len(self._rows):
            return
        said = self._rows[: self.size - 1] @ product
        said[-1] -= self._beside[-1]
        must_have_been_symmetric(float(said.abs().max()), self._scale, self.operator.dtype)

    @property
    def rounding(self) -> float:
        """How far rounding can have moved a node, for the largest product so far."""
        return _beside(self.operator, _ROUNDING) * self._scale

    @property
    def remainder(self) -> float:
        """The length of what the last step left to follow: 0.0 where it is complete."""
        return 0.0 if self.complete else self._beside[-1]

    def quadrature(self, num_steps: int | None = None) -> Quadrature:
        """Nodes and weights after all steps, or after the first `num_steps` of them, which costs nothing."""
        size = self.size if num_steps is None else min(num_steps, self.size)
        if size == 0:
            empty = np.empty(0)
            return Quadrature(nodes=empty, weights=empty, residuals=empty, complete=True, rounding=0.0)
        nodes, vectors = self._ritz(size)
        last = self.remainder if size == self.size else self._beside[size - 1]
        return Quadrature(
            nodes=nodes,
            weights=vectors[0] ** 2,
            residuals=last * np.abs(vectors[-1]),
            complete=self.complete and size == self.size,
            rounding=self.rounding,
        )

    def radau(self, end: float) -> Quadrature | None:
        """Nodes and weights with one more node below all others, at `end`: the Gauss-Radau rule.

        No eigenvalue may lie below `end`. Where a Ritz value meets it or falls below it by rounding, the end is moved
        down by as much, which is as good a bound. None where arithmetic resolves no such rule; its residuals are not
        known.
        """
        from scipy.linalg import solveh_banded

        if self.complete:
            return self.quadrature()
        ritz, _ = self._ritz(self.size)
        lowest = float(ritz[0]) - _BELOW * max(float(np.abs(ritz).max()), 1e-290)
        if end > lowest:
            end = min(end - self.rounding, lowest)
        shifted, squared = np.subtract(self._diagonal, end), self.remainder**2
        try:
            if self.size == 1:
                last = end + squared / shifted[0]
            else:
                banded = np.array([[0.0, *self._beside[: self.size - 1]], shifted])
                last = end + solveh_banded(banded, squared * np.eye(self.size)[-1])[-1]
        except np.linalg.LinAlgError:
            return None
        nodes, vectors = _solved([*self._diagonal, last], self._beside)
        unknown = np.full(len(nodes), np.nan)
        return Quadrature(
            nodes=nodes, weights=vectors[0] ** 2, residuals=unknown, complete=False, rounding=self.rounding
        )

    def rows(self) -> torch.Tensor:
        """``(m, P)`` the rows that are held, orthonormal."""
        return self._rows[: self.size]

    def vectors(self, places: NDArray[np.int64]) -> torch.Tensor | None:
        """``(P, k)`` the Ritz vectors of these nodes in the operator's dtype; None where not all rows were kept."""
        if self.size > len(self._rows):
            return None
        _, combinations = self._ritz(self.size)
        mixing = torch.from_numpy(np.ascontiguousarray(combinations[:, places].T)).to(self._rows)
        return (mixing @ self._rows[: self.size]).T

    def _ritz(self, size: int) -> tuple[Floats, Floats]:
        return _solved(self._diagonal[:size], self._beside[: size - 1])

    def _outside(self, vector: torch.Tensor) -> torch.Tensor:
        """The vector without its part in the known vectors and in the rows."""
        if self._known is not None:
            vector = vector - self._known @ (self._known.T @ vector)
        rows = self._rows[: self.size]
        vector = vector - (rows @ vector) @ rows
        if self.size > len(self._rows):
            for row in (self._newest, self._before):
                vector = vector - (row @ vector) * row
        return vector


def rounding_of(operator: Operator, values: Floats) -> float:
    """How far rounding can have moved eigenvalues ``(k,)``, for the largest magnitude among them."""
    return _beside(operator, _ROUNDING) * float(np.abs(values).max(initial=0.0))


def _beside(operator: Operator, bound: tuple[float, float]) -> float:
    times, least = bound
    return max(times * torch.finfo(operator.dtype).eps, least)


def _length(vector: torch.Tensor) -> float:
    # In float64, because the squares of float32 numbers overflow from 1e19 on, and vanish below 1e-23.
    return float(vector.double().norm())


def _solved(diagonal: list[float], beside: list[float]) -> tuple[Floats, Floats]:
    """Eigenvalues, rising, and eigenvectors of a symmetric tridiagonal matrix, in float64."""
    from scipy.linalg import eigh_tridiagonal

    if len(diagonal) == 1:
        return np.array(diagonal), np.ones((1, 1))
    nodes, vectors = eigh_tridiagonal(diagonal, beside)
    return nodes, vectors
