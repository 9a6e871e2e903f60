"""How far quadratic forms with random signs scatter, told from the products and not only from the forms.

``Var(z' B z) = 2 (|B|² - sum B_ii²)`` for random signs z. The squared length of ``B z`` has the mean ``|B|²``, and
``z_i (B z)_i`` the mean ``B_ii``, independently for two probes. So a few probes tell the variance much better than the
scatter of as many forms does: where one direction holds nearly all of the trace forms are skewed, and a few of them are
often all small and close together.

Of ``B = A²`` no products are made, but ``z' B z = |A z|²`` has some of A: the inner product of two of them is a form of
B with two probes, and the square of an entry of one has the mean ``B_ii``.

Source: Avron and Toledo (2011), Randomized algorithms for estimating the trace of an implicit symmetric positive
semi-definite matrix, lemma 9.
"""

from __future__ import annotations

import torch

_COLUMNS = 1 << 15


class SignVariance:
    """The variance of ``z' B z`` over random signs z, estimated without bias from K of them; B is symmetric."""

    def __init__(self) -> None:
        self._count = 0
        self._squares = 0.0
        self._own = 0.0
        self._diagonals: torch.Tensor | None = None

    def add(self, z: torch.Tensor, product: torch.Tensor) -> None:
        """Takes a probe ``(P,)`` of random signs and its product ``(P,)`` with B in."""
        diagonal = z * product
        self._count += 1
        self._squares += float(product @ product)
        self._own += float(diagonal @ diagonal)
        self._diagonals = diagonal if self._diagonals is None else self._diagonals + diagonal

    def value(self) -> float:
        """The estimate; 0.0 with fewer than two probes, or where rounding and chance make it negative."""
        if self._diagonals is None or self._count < 2:
            return 0.0
        pairs = self._count * (self._count - 1)
        diagonal = (float(self._diagonals @ self._diagonals) - self._own) / pairs
        return max(0.0, 2 * (self._squares / self._count - diagonal))


class SquareVariance:
    """The variance of ``|A z|²`` over random signs z, estimated from K products A z; A is symmetric.

    It is twice what ``s' (B - D) t`` has as a mean square over two probes s and t, D being the diagonal of B as all
    other products say it. How far D is off makes the estimate larger, never smaller, and by less with more products.

    Args:
        room: how many products may be held; those beyond it are left out.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, z: torch.Tensor, product: torch.Tensor) -> None:
        """Takes a probe ``(P,)`` of random signs and its product ``(P,)`` with A in."""
        if len(self._seen) < self._room:
            self._seen.append((z.to(torch.int8), product))

    def value(self) -> float:
        """The estimate; 0.0 with fewer than three products."""
        count = len(self._seen)
        if count < 3:
            return 0.0
        inner, diagonal = torch.zeros(2, count, count, dtype=torch.float64)
        for start in range(0, len(self._seen[0][1]), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            z, products = (torch.stack([each[place][part] for each in self._seen]).double() for place in (0, 1))
            squares = products.square()
            inner += (products @ products.T).cpu()
            own = (z * squares) @ z.T  # what the two products themselves say of D
            diagonal += ((z * squares.sum(0)) @ z.T - own - own.T).cpu()
        apart = inner - diagonal / (count - 2)
        return 4 * float(apart.triu(1).square().sum()) / (count * (count - 1))
