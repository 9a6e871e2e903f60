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
from vallis.numerics.operators import Operator, must_be_symmetric
from vallis.numerics.spectra import must_be_finite

Floats = NDArray[np.float64]
_ROW_BYTES = 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class Quadrature:
    """Nodes and weights that stand for the spectrum as one vector sees it.

    Attributes:
        nodes: ``(m,)`` rising: the Ritz values.
        weights: ``(m,)``, not negative; they sum to one.
        residuals: ``(m,)``: within this of a node there is an eigenvalue.
        complete: the recurrence ended by itself, so that all functions are integrated exactly.
    """

    nodes: Floats
    weights: Floats
    residuals: Floats
    complete: bool

    def __len__(self) -> int:
        return len(self.nodes)

    def moment(self, degree: int) -> float:
        """``q' A^degree q``."""
        return float(self.weights @ self.nodes**degree)

    def cumulative(self, points: Floats) -> tuple[Floats, Floats]:
        """``(G,)`` bounds, below and above, of the weight of the eigenvalues up to each point.

        They hold for the true spectrum, not only for the nodes (the Chebyshev-Markov-Stieltjes inequalities): at a node
        the weight so far lies between the sums without and with that node's own.
        """
        sums = np.concatenate([[0.0], np.cumsum(self.weights)])
        reached = np.searchsorted(self.nodes, points, side="right")
        if self.complete:
            return sums[reached], sums[reached]
        at_node = (reached > 0) & (self.nodes[np.maximum(reached, 1) - 1] == points)
        above = np.where(at_node, reached, np.minimum(reached + 1, len(self)))
        return sums[np.maximum(reached - 1, 0)], sums[above]


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

    Attributes:
        size: m, how many steps were made.
        complete: nothing is left to follow: the rows span an invariant subspace.

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
    ) -> None:
        must_be_symmetric(operator)
        if num_steps < 1:
            raise SettingsError(f"at least one step was required, num_steps={num_steps} came: raise it")
        self.operator = operator
        self.size, self.complete = 0, False
        room = max(2, row_bytes // (operator.size * operator.dtype.itemsize))
        shape = (min(num_steps, operator.size, room), operator.size)
        self._rows = torch.empty(shape, dtype=operator.dtype, device=operator.device)
        self._known = None if known is None else known.to(self._rows)
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._scale = 0.0
        first = self._outside(self._outside(start.to(self._rows) / float(start.norm())))
        length = float(first.norm())
        # What lies in the span of the known ones altogether sees nothing of the rest.
        self.complete = not length > 100 * torch.finfo(operator.dtype).eps
        self._newest, self._before = first / length, torch.zeros_like(first)

    def run(self, num_steps: int) -> Recurrence:
        """Makes so many steps, or fewer where it completes."""
        for _ in range(num_steps):
            if self.complete:
                break
            self.step()
        return self

    def step(self) -> None:
        """One product."""
        vector, before = self._newest, self._before
        if self.size < len(self._rows):
            self._rows[self.size] = vector
        product = self.operator.matvec(vector)
        norm = float(product.norm())
        must_be_finite(norm)
        self._scale = max(self._scale, norm)
        here = float(vector.double() @ product.double())
        rest = product - here * vector - (self._beside[-1] if self._beside else 0.0) * before
        self._diagonal.append(here)
        self.size += 1
        rest = self._outside(rest)
        length = float(rest.norm())
        if length < 1e-2 * norm:  # what was taken away is large beside what is left, so is its rounding
            rest = self._outside(rest)
            length = float(rest.norm())
        self._beside.append(length)
        # Below this there is nothing in it but rounding.
        self.complete = self.size == self.operator.size or (
            length <= 100 * torch.finfo(self.operator.dtype).eps * self._scale
        )
        if not self.complete:
            self._before, self._newest = vector, rest / length

    def quadrature(self, num_steps: int | None = None) -> Quadrature:
        """Nodes and weights after all steps, or after the first `num_steps` of them, which costs nothing."""
        size = self.size if num_steps is None else min(num_steps, self.size)
        if size == 0:
            empty = np.empty(0)
            return Quadrature(nodes=empty, weights=empty, residuals=empty, complete=True)
        nodes, vectors = self._ritz(size)
        complete = self.complete and size == self.size
        last = 0.0 if complete else self._beside[size - 1]
        residuals = last * np.abs(vectors[-1])
        return Quadrature(nodes=nodes, weights=vectors[0] ** 2, residuals=residuals, complete=complete)

    def radau(self, end: float) -> Quadrature:
        """Nodes and weights with one more node, at `end`, below all others: the Gauss-Radau rule."""
        from scipy.linalg import solveh_banded

        if self.complete:
            return self.quadrature()
        squared = np.zeros(self.size)
        squared[-1] = self._beside[-1] ** 2
        banded = np.array([[0.0, *self._beside[:-1]], np.subtract(self._diagonal, end)])
        shifted = end + solveh_banded(banded, squared)[-1]
        nodes, vectors = _solved([*self._diagonal, shifted], self._beside)
        return Quadrature(nodes=nodes, weights=vectors[0] ** 2, residuals=np.full(len(nodes), np.nan), complete=False)

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


def _solved(diagonal: list[float], beside: list[float]) -> tuple[Floats, Floats]:
    """Eigenvalues, rising, and eigenvectors of a symmetric tridiagonal matrix, in float64."""
    from scipy.linalg import eigh_tridiagonal

    if len(diagonal) == 1:
        return np.array(diagonal), np.ones((1, 1))
    nodes, vectors = eigh_tridiagonal(diagonal, beside)
    return nodes, vectors
