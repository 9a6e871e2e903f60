"""Certified eigenpairs of a symmetric operator: thick-restart Lanczos with full reorthogonalisation.

Every pair carries its residual ``|A v - value v|``, within which of the value there is an eigenvalue. The iteration
stops when all residuals are small enough, and says so when they are not. Small operators are written out and solved
densely, so that there even multiple eigenvalues are certain.

Source: Wu and Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from vallis.core.errors import SettingsError
from vallis.core.progress import bar
from vallis.core.rng import Rng
from vallis.core.types import Note
from vallis.numerics.basis import Basis, Floats
from vallis.numerics.operators import Operator, must_be_symmetric
from vallis.numerics.spectra import Eigenpairs, Spectrum, Stop, dense_spectrum, lower, upper

DENSE_SIZE = 256
_BASIS_BYTES = 2**30


def eigenpairs(
    operator: Operator,
    *,
    largest: int = 0,
    smallest: int = 0,
    rng: Rng,
    tolerance: float = 1e-4,
    max_products: int = 1000,
    search: int = 0,
    dense_size: int = DENSE_SIZE,
) -> Spectrum:
    """The largest and the smallest eigenvalues of an operator, with vectors and residuals.

    A Krylov space holds one vector of a multiple eigenvalue, so copies can be missed; `search` looks for them.

    Args:
        operator: it must be symmetric.
        largest: how many from the upper end; more than P are cut to P.
        smallest: how many from the lower end.
        rng: where the start vectors come from.
        tolerance: a pair has converged when its residual is at most this times the largest magnitude of an eigenvalue.
        max_products: the most products with the operator.
        search: after convergence, spend this many products on a random start outside of the space that was seen, and go
            on if that finds more extreme values. Zero does not look.
        dense_size: an operator of at most this size is written out, by P products, if `max_products` allows.

    Raises:
        SettingsError: a count is negative, or the tolerance is not positive.
        UsageError: the operator promises no symmetry, or a product is not finite.
    """
    must_be_symmetric(operator)
    if min(largest, smallest, search) < 0 or largest + smallest < 1 or max_products < 1 or not tolerance > 0:
        raise SettingsError(
            "at least one eigenvalue, one product and a tolerance above 0 were required, "
            f"largest={largest}, smallest={smallest}, search={search}, max_products={max_products}, "
            f"tolerance={tolerance} came: change them"
        )
    notes = _clamped(operator.size, max(largest, smallest))
    largest, smallest = min(largest, operator.size), min(smallest, operator.size)
    if operator.size <= min(dense_size, max_products):
        return dense_spectrum(operator, largest, smallest, notes)
    return _Hunt(operator, largest, smallest, tolerance, max_products, rng).run(search, notes)


class _Hunt:
    """One run of the iteration: what is wanted, what was found, what was spent."""

    def __init__(
        self, operator: Operator, largest: int, smallest: int, tolerance: float, max_products: int, rng: Rng
    ) -> None:
        self.largest, self.smallest = largest, smallest
        self.wanted = min(operator.size, largest + smallest)
        self.tolerance, self.max_products = tolerance, max_products
        self.basis = Basis(operator, _capacity(operator, self.wanted))
        self.rng = rng
        self.num_products = 0
        self._next_look = self.wanted
        self._found: Eigenpairs | None = None

    def run(self, search: int, notes: tuple[Note, ...]) -> Spectrum:
        """Expands until the wanted pairs have converged, and a search finds no others."""
        with bar("eigenvalues", self.max_products) as self.moving:
            stop = self._converge()
            while stop == "converged" and search and not self.basis.complete:
                before, spent = self._wanted_values(), self._look_elsewhere(search)
                if spent < search and not self.basis.complete:
                    notes = (*notes, _cut_short(spent, search))
                    search = 0
                stop = self._converge()
                after = self._wanted_values()
                if np.allclose(before, after, rtol=0.0, atol=self.tolerance * self._scale):
                    break
        found = self._found or self._pairs()
        return Spectrum(
            largest=upper(found, self.largest),
            smallest=lower(found, self.smallest),
            scale=self._scale,
            num_products=self.num_products,
            stop=stop,
            notes=notes,
        )

    def _converge(self) -> Stop:
        """Expands until the wanted pairs have converged, or there is a reason to stop without."""
        while True:
            stop = self._verdict()
            if stop is not None:
                return stop
            if self.num_products >= self.max_products:
                return "max_products"
            self._expand()

    def _verdict(self) -> Stop | None:
        """Looks at the bounds, which are free, and where they promise convergence at the residuals; None goes on."""
        if self.basis.size < self._next_look and not self.basis.complete:
            return None
        self._next_look = self.basis.size + 1 + self.basis.size // 16
        limit = self.tolerance * self._scale
        rounding = torch.finfo(self.basis.operator.dtype).eps * self._scale
        _, combinations = self.basis.ritz()
        bound = float(self.basis.bounds(combinations[:, self._places()]).max())
        if bound > max(limit, rounding) and not self.basis.complete:
            return None
        self._found = self._pairs()
        residual = float(self._found.residuals.max())
        if residual <= limit:
            return "converged"
        # The bounds know nothing of rounding. Where it is what remains, expanding on cannot take it away.
        return "rounding" if bound <= max(residual / 10, rounding) or self.basis.complete else None

    def _expand(self, how: Literal["wanted", "newest", "random"] = "wanted") -> None:
        if self.basis.size == self.basis.capacity:
            self._restart()
        stream = self.rng.child("direction", self.num_products)
        if how == "random":
            self.basis.wander(stream)
        elif how == "newest" or self.basis.num_open < 2:
            self.basis.follow(stream)
        else:
            _, combinations = self.basis.ritz()
            self.basis.follow(stream, combinations[:, self._places()])
        self._found = None
        self.num_products += 1
        self.moving.update(1)

    def _restart(self) -> None:
        """Keeps the wanted Ritz vectors and as many beyond them as leave half of the remaining room free."""
        values, combinations = self.basis.ritz()
        spare = (self.basis.capacity - self.wanted) // 2
        above = spare * self.largest // (self.largest + self.smallest)
        kept = _ends(self.basis.size, self.largest + above, self.smallest + spare - above)
        self.basis.compress(values[kept], combinations[:, kept])
        self._next_look = min(self._next_look, self.basis.size + 1)

    def _look_elsewhere(self, search: int) -> int:
        """Grows a second Krylov space from a random start; how many products that took."""
        spent = 0
        while spent < search and self.num_products < self.max_products and not self.basis.complete:
            self._expand("newest" if spent else "random")
            spent += 1
        self._next_look = self.basis.size
        return spent

    def _pairs(self) -> Eigenpairs:
        """The wanted pairs, rising, by a projection in float64."""
        _, combinations = self.basis.ritz()
        values, vectors, residuals = self.basis.pairs(combinations[:, self._places()])
        good = residuals <= self.tolerance * self._scale
        return Eigenpairs(values=values, vectors=vectors, residuals=residuals, converged=good)

    @property
    def _scale(self) -> float:
        values, _ = self.basis.ritz()
        return float(np.abs(values).max())

    def _places(self) -> list[int]:
        return _ends(self.basis.size, self.largest, self.smallest)

    def _wanted_values(self) -> Floats:
        values, _ = self.basis.ritz()
        return values[self._places()]


def _ends(size: int, largest: int, smallest: int) -> list[int]:
    """The first `smallest` and the last `largest` places of 0..size-1, each once, rising."""
    return [place for place in range(size) if place < smallest or place >= size - largest]


def _capacity(operator: Operator, wanted: int) -> int:
    """Room for the basis: enough that few problems ever restart, within a fixed number of bytes."""
    row_bytes = operator.size * operator.dtype.itemsize
    return max(wanted + 20, min(4 * wanted + 160, _BASIS_BYTES // row_bytes))


def _clamped(size: int, wanted: int) -> tuple[Note, ...]:
    if wanted <= size:
        return ()
    text = f"{wanted} eigenvalues were asked for, and with {size} parameters there are {size}."
    return (Note(code="fewer_eigenvalues", text=text),)


def _cut_short(spent: int, search: int) -> Note:
    text = (
        f"The search for further eigenvalues ended after {spent} of {search} products, at the most that were allowed."
    )
    return Note(code="search_cut_short", text=text)
