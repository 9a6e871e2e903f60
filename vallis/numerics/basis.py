"""A growing orthonormal basis with the products of a symmetric operator, and what can be read off it.

The products are kept, not only the recurrence: a pair's residual is then that of the operator itself, for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.rng import Rng
from vallis.numerics.asking import Asking
from vallis.numerics.operators import Operator
from vallis.numerics.probes import sphere
from vallis.numerics.spectra import explained_by_rounding, must_be_finite, must_have_been_symmetric

Floats = NDArray[np.float64]
_COLUMNS = 1 << 16


@dataclass(eq=False)
class _End:
    """A direction outside of the basis in which the residual of row i has the coefficient i.

    Attributes:
        vector: ``(P,)``; empty once there is nothing to follow, because only rounding is left of it.
    """

    coefficients: Floats
    vector: torch.Tensor

    @property
    def is_open(self) -> bool:
        return self.vector.numel() > 0


class Basis:
    """Rows ``V (m, P)``, their products ``W = V A``, and the projected matrix ``T = V A V' (m, m)``.

    The part of a product that lies outside of the basis is an open end of it. Following the only end there is, again
    and again, is the Lanczos recurrence; each random direction that is put in begins another. The coefficients of the
    ends bound the residual of any combination of rows.

    Args:
        operator: A.
        capacity: how many rows there is room for.

    Attributes:
        size: m.
    """

    def __init__(self, operator: Operator, capacity: int) -> None:
        self.operator = operator
        self.capacity = min(capacity, operator.size)
        self.size = 0
        self._rows = torch.empty(self.capacity, operator.size, dtype=operator.dtype, device=operator.device)
        self._products = torch.empty_like(self._rows)
        self._projected = np.zeros((self.capacity, self.capacity))
        self._ends: list[_End] = []
        self._scale = 0.0
        self._ritz: tuple[Floats, Floats] | None = None

    @property
    def complete(self) -> bool:
        """Whether it spans the whole space."""
        return self.size == self.operator.size

    @property
    def num_open(self) -> int:
        """How many ends can be followed; none after a breakdown."""
        return sum(end.is_open for end in self._ends)

    def begin(self, rows: torch.Tensor, products: torch.Tensor) -> None:
        """Starts an empty basis with some rows and their products; each row's residual is an open end.

        Args:
            rows: ``(q, P)``, orthonormal.
            products: ``(q, P)``, what the operator makes of them.
        """
        count = len(rows)
        self._rows[:count], self._products[:count] = rows, products
        self.size = count
        self._ritz = None
        projected = self._rows[:count] @ self._products[:count].T
        self._projected[:count, :count] = ((projected + projected.T) / 2).cpu().double().numpy()
        norms = [_length(product) for product in self._products[:count]]
        must_be_finite(sum(norms))
        self._scale = max(self._scale, *norms)
        for place in range(count):
            rest, _ = self._outside(self._products[place])
            self._ends.append(self._end(rest, place))

    def held(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows and their products ``(m, P)``, as they lie."""
        return self._rows[: self.size], self._products[: self.size]

    def follow(self, rng: Rng, wanted: Floats | None = None) -> Asking[None]:
        """Adds the direction of an open end and its product, for which it asks.

        Where all ends are closed, a random direction takes its place.

        Args:
            rng: for the random direction.
            wanted: combinations of rows ``(m, k)``, whose residuals are to fall: the end that adds most to them is
                followed. None follows the newest.
        """
        while self.num_open:
            end = self._most_telling(wanted)
            vector, _ = self._outside(end.vector)  # once more: the rounding of the first time has left some in
            rest = float(vector.norm())
            if rest**2 > torch.finfo(self.operator.dtype).eps:
                self._ends.remove(end)
                yield from self._append(vector / rest if rest > 0.5 else self._normalised(vector))
                return
            # Other directions have covered it meanwhile.
            end.vector, end.coefficients = vector[:0], end.coefficients * rest
        yield from self.wander(rng)

    def wander(self, rng: Rng) -> Asking[None]:
        """Adds a random direction and its product, for which it asks; the open ends stay open."""
        drawn = torch.randn(self.operator.size, generator=rng.torch(), dtype=torch.float64)
        vector, _ = self._outside(drawn.to(device=self.operator.device, dtype=self.operator.dtype))
        yield from self._append(self._normalised(vector))

    def ritz(self) -> tuple[Floats, Floats]:
        """Ritz values ``(m,)``, rising, and ``(m, m)`` the combinations of rows they belong to, as columns."""
        if self._ritz is None:
            values, combinations = torch.linalg.eigh(torch.from_numpy(self._projected[: self.size, : self.size]))
            self._ritz = values.numpy(), combinations.numpy()
        return self._ritz

    def bounds(self, combinations: Floats) -> Floats:
        """``(k,)`` upper bounds, up to rounding, of the residuals of combinations ``(m, k)``."""
        parts = [np.abs(end.coefficients @ combinations) for end in self._ends]
        return np.sum(parts, axis=0) if parts else np.zeros(combinations.shape[1])

    def compress(self, values: Floats, combinations: Floats) -> None:
        """Replaces the rows by these Ritz vectors: a thick restart. The open ends stay open."""
        kept = combinations.shape[1]
        mixing = torch.from_numpy(np.ascontiguousarray(combinations.T)).to(self._rows)
        for held in (self._rows, self._products):
            for start in range(0, held.shape[1], _COLUMNS):  # in slices, or the copy would double the memory
                part = held[:, start : start + _COLUMNS]
                part[:kept] = mixing @ part[: self.size]
        self._projected[:] = 0.0
        self._projected[range(kept), range(kept)] = values
        for end in self._ends:
            end.coefficients = end.coefficients @ combinations
        self.size = kept
        self._ritz = None

    def pairs(self, combinations: Floats) -> tuple[Floats, torch.Tensor, Floats]:
        """The best eigenpairs in the span of some combinations ``(m, k)``, in float64.

        Returns:
            values ``(k,)``, rising; vectors ``(P, k)`` of length one; residuals ``(k,)``, each ``|A v - value v|``.
        """
        mixing = torch.from_numpy(np.ascontiguousarray(combinations.T)).to(self._rows.device)
        vectors = self._mixed(self._rows, mixing)
        products = self._mixed(self._products, mixing)
        # The rows are orthonormal only up to the rounding of their dtype, so the span is made so once more.
        gram = vectors @ vectors.T
        inverse_root = torch.linalg.inv(torch.linalg.cholesky(gram))
        projected = inverse_root @ (vectors @ products.T) @ inverse_root.T
        values, rotation = torch.linalg.eigh((projected + projected.T) / 2)
        turn = rotation.T @ inverse_root
        vectors, products = turn @ vectors, turn @ products
        products -= values[:, None] * vectors
        return values.cpu().numpy(), vectors.T, products.norm(dim=1).cpu().numpy()

    def _append(self, vector: torch.Tensor) -> Asking[None]:
        product = yield self.operator, vector
        norm = _length(product)
        must_be_finite(norm)
        place = self.size
        self._rows[place], self._products[place] = vector, product
        self.size += 1
        self._ritz = None
        rest, coefficients = self._outside(product)
        yield from self._must_be_symmetric(vector, coefficients[:-1])
        column = coefficients.cpu().double().numpy()
        self._projected[place, : self.size] = self._projected[: self.size, place] = column
        for end in self._ends:
            end.coefficients = np.append(end.coefficients, 0.0)
        self._scale = max(self._scale, norm)
        self._ends.append(self._end(rest, place))

    def _must_be_symmetric(self, vector: torch.Tensor, coefficients: torch.Tensor) -> Asking[None]:
        """Compares what the new product says of the old rows with what the old products say of the new row."""
        if not len(coefficients):
            return
        difference = float((self._products[: len(coefficients)] @ vector - coefficients).abs().max())
        if not explained_by_rounding(difference, self._scale, self.operator.dtype):
            # A start that the operator takes to nearly nothing leaves only rounding: of what, a random vector shows.
            other = sphere(self.operator, Rng().child("symmetry")).to(vector)
            product = yield self.operator, other
            self._scale = max(self._scale, _length(product))
            must_have_been_symmetric(difference, self._scale, self.operator.dtype)

    def _end(self, rest: torch.Tensor, place: int) -> _End:
        """What is left of the product of a row outside of the basis."""
        beta = _length(rest)
        coefficients = np.zeros(self.size)
        coefficients[place] = beta
        # Below this there is nothing in it but rounding: the rows span an invariant subspace.
        rounding = 100 * torch.finfo(self.operator.dtype).eps * self._scale
        return _End(coefficients, rest / beta if beta > rounding else rest[:0])

    def _most_telling(self, wanted: Floats | None) -> _End:
        followable = [end for end in self._ends if end.is_open]
        if wanted is None:
            return followable[-1]
        return max(followable, key=lambda end: float(np.abs(end.coefficients @ wanted).max()))

    def _outside(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The vector without its part in the basis, and the coefficients of that part ``(m,)``."""
        rows = self._rows[: self.size]
        coefficients = rows @ vector
        return vector - coefficients @ rows, coefficients

    def _normalised(self, vector: torch.Tensor) -> torch.Tensor:
        """The direction of the vector's part outside of the basis, which is most of it."""
        vector, _ = self._outside(vector / vector.norm())
        return vector / float(vector.norm())

    def _mixed(self, held: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
        mixed = torch.empty(mixing.shape[0], held.shape[1], dtype=torch.float64, device=held.device)
        for start in range(0, held.shape[1], _COLUMNS):
            part = held[: self.size, start : start + _COLUMNS].double()
            mixed[:, start : start + _COLUMNS] = mixing @ part
        return mixed


def _length(vector: torch.Tensor) -> float:
    # In float64, because the squares of float32 numbers overflow from 1e19 on, and vanish below 1e-23.
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
