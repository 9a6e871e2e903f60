"""One run of thick-restart Lanczos: what is wanted, what was found, what was spent."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from vallis.core.progress import bar
from vallis.core.rng import Rng
from vallis.core.types import Note
from vallis.numerics.asking import Asking
from vallis.numerics.basis import Basis
from vallis.numerics.operators import Operator
from vallis.numerics.parts import Parts
from vallis.numerics.spectra import Eigenpairs, Floats, Spectrum, Stop
from vallis.numerics.wanted import Mask, Standard, Wanted

_BASIS_BYTES = 2**30
# Where ten eigenvalues spread over a factor of 30 stand out of a bulk (P = 600, tolerance 0.02), 2 products of search
# left 31 of 100 spectra with a wrong value that said it had converged, and 5 left 2; of twenty, 5 left 4 and 10 none.
FEWEST_TO_SEARCH = 5


class Hunt:
    """A search for eigenpairs in a growing basis.

    Args:
        operator: symmetric, larger than what is wanted.
        wanted: which eigenvalues.
        tolerance: see `vallis.numerics.wanted.Standard`.
        max_products: the most products with the operator.
        rng: where random directions come from.
    """

    def __init__(self, operator: Operator, wanted: Wanted, tolerance: float, max_products: int, rng: Rng) -> None:
        self._operator = operator
        self._wanted = wanted
        self._count = wanted.count(operator.size)
        self._standard = Standard(tolerance=tolerance, rounding=torch.finfo(operator.dtype).eps)
        self._max_products = max_products
        self._rng = rng
        self._spent = 0.0  # a product with one of two parts counts as its share of the cost
        self._num_steps = 0
        self._basis = Basis(operator, self._capacity(0))
        self._beyond: Floats = np.empty(0)
        self._next_look = self._count
        self._found: Eigenpairs | None = None

    def run(self, search: int, start: torch.Tensor | None, notes: tuple[Note, ...]) -> Asking[Spectrum]:
        """Asks for products until the wanted pairs have converged, and a search finds no others.

        Args:
            search: products spent on looking elsewhere.
            start: ``(P, q)`` directions to begin with, or None.
            notes: what there is to say already.
        """
        with bar("eigenvalues", self._max_products) as self._moving:
            yield from self._begin(start)
            stop = yield from self._converge()
            while stop == "converged" and search and not self._basis.complete:
                before = self._wanted_values()
                spent = yield from self._look_elsewhere(search)
                cut_short, least = spent < search and not self._basis.complete, min(search, FEWEST_TO_SEARCH)
                if cut_short:
                    notes = (*notes, _cut_short(spent, search))
                    search = 0
                stop = yield from self._converge()
                if cut_short and spent < least and stop == "converged":
                    stop = "max_products"
                after = self._wanted_values()
                if np.allclose(before, after, rtol=0.0, atol=self._standard.tolerance * self._scale):
                    break
        largest, smallest = self._wanted.ends(self._found or self._pairs())
        return Spectrum(
            largest=largest,
            smallest=smallest,
            scale=self._scale,
            num_products=int(np.ceil(self._spent)),
            stop=stop,
            notes=notes,
        )

    # ------------------------------------------------------------------------------------------- where it begins

    def _begin(self, start: torch.Tensor | None) -> Asking[None]:
        if start is not None:
            row = start.detach().double().sum(dim=1)
            row = (row / row.norm()).to(device=self._operator.device, dtype=self._operator.dtype)[None]
            product = yield self._operator, row[0]
            self._begin_with(row, product[None], 1)
        elif isinstance(self._operator, Parts):
            yield from self._begin_with_most(self._operator)

    def _begin_with_most(self, operator: Parts) -> Asking[None]:
        """Finds what the cheap part has, and adds what the rest makes of it."""
        first = Hunt(operator.most, self._wanted, self._standard.tolerance, self._max_products, self._rng.child("most"))
        first._moving = self._moving
        while not first._hopeful() and first._spent < self._max_products:
            yield from first._expand()
        values, combinations = first._basis.ritz()
        places = self._wanted.places(values)
        self._beyond = np.delete(values, places)
        first._basis.compress(values[places], combinations[:, places])
        rows, products = first._basis.held()
        for row, product in zip(rows, products, strict=True):
            product += yield operator.rest, row
        cheap, dear = operator.cost_fraction, 1 - operator.cost_fraction
        self._begin_with(rows, products, first._spent * cheap + len(rows) * dear)

    def _begin_with(self, rows: torch.Tensor, products: torch.Tensor, spent: float) -> None:
        self._basis = Basis(self._operator, self._capacity(len(rows)))
        self._basis.begin(rows, products)
        self._spent += spent
        self._moving.update(int(spent))

    def _capacity(self, num_started: int) -> int:
        return capacity(self._operator, max(self._count, num_started))

    # ------------------------------------------------------------------------------------------- how it goes on

    def _converge(self) -> Asking[Stop]:
        """Expands until the wanted pairs have converged, or there is a reason to stop without."""
        while True:
            stop = self._verdict()
            if stop is not None:
                return stop
            if self._spent + 1 > self._max_products:
                return "max_products"
            yield from self._expand()

    def _verdict(self) -> Stop | None:
        """Looks at the bounds, which are free, and where they promise convergence at the residuals; None goes on."""
        if not self._hopeful():
            return None
        self._found = self._pairs()
        if self._found.converged.all():
            return "converged"
        # The bounds know nothing of rounding. Where it is what remains, expanding on cannot take it away.
        _, bounds = self._bounded()
        hidden = bounds <= np.maximum(self._found.residuals / 10, self._rounding)
        return "rounding" if self._basis.complete or (hidden | self._found.converged).all() else None

    def _hopeful(self) -> bool:
        """Whether the bounds promise that all wanted pairs have converged; looked at in growing intervals."""
        if self._basis.complete:
            return True
        if self._basis.size < self._next_look:
            return False
        self._next_look = self._basis.size + 1 + self._basis.size // 32
        values, bounds = self._bounded()
        return bool((self._met(values, bounds) | (bounds <= self._rounding)).all())

    def _bounded(self) -> tuple[Floats, Floats]:
        """The wanted Ritz values, and what bounds their residuals but for rounding."""
        values, combinations = self._basis.ritz()
        places = self._wanted.places(values)
        return values[places], self._basis.bounds(combinations[:, places])

    def _expand(self, how: Literal["wanted", "newest", "random"] = "wanted") -> Asking[None]:
        if self._basis.size == self._basis.capacity:
            self._restart()
        stream = self._rng.child("direction", self._num_steps)
        if how == "random":
            yield from self._basis.wander(stream)
        elif how == "newest" or self._basis.num_open < 2:
            yield from self._basis.follow(stream)
        else:
            values, combinations = self._basis.ritz()
            yield from self._basis.follow(stream, combinations[:, self._unmet(values, combinations)])
        self._found = None
        self._num_steps += 1
        self._spent += 1
        self._moving.update(1)

    def _unmet(self, values: Floats, combinations: Floats) -> list[int]:
        """The wanted pairs that need more directions; all where none seems to."""
        places = np.array(self._wanted.places(values))
        met = self._met(values[places], self._basis.bounds(combinations[:, places]))
        return [int(place) for place in (places if met.all() else places[~met])]

    def _restart(self) -> None:
        """Keeps the wanted Ritz vectors and as many beyond them as leave half of the remaining room free."""
        values, combinations = self._basis.ritz()
        kept = self._wanted.places(values, (self._basis.capacity - self._count) // 2)
        self._basis.compress(values[kept], combinations[:, kept])
        self._next_look = min(self._next_look, self._basis.size + 1)

    def _look_elsewhere(self, search: int) -> Asking[int]:
        """Grows a second Krylov space from a random start; how many products that took."""
        spent = 0
        while spent < search and self._spent + 1 <= self._max_products and not self._basis.complete:
            yield from self._expand("newest" if spent else "random")
            spent += 1
        self._next_look = self._basis.size
        return spent

    # ------------------------------------------------------------------------------------------- what it has

    def _pairs(self) -> Eigenpairs:
        """The wanted pairs, rising, by a projection in float64."""
        rising, combinations = self._basis.ritz()
        places = self._wanted.places(rising)
        values, vectors, residuals = self._basis.pairs(combinations[:, places])
        return Eigenpairs(values=values, vectors=vectors, residuals=residuals, converged=self._met(values, residuals))

    def _met(self, values: Floats, residuals: Floats) -> Mask:
        rising, _ = self._basis.ritz()
        others = np.concatenate([np.delete(rising, self._wanted.places(rising)), self._beyond])
        return self._standard.met(values, residuals, others, self._scale)

    @property
    def _rounding(self) -> float:
        return self._standard.rounding * self._scale

    @property
    def _scale(self) -> float:
        values, _ = self._basis.ritz()
        return float(np.abs(values).max())

    def _wanted_values(self) -> Floats:
        values, _ = self._basis.ritz()
        return values[self._wanted.places(values)]


def capacity(operator: Operator, count: int) -> int:
    """Room for a basis: enough that few problems ever restart, within a fixed number of bytes."""
    row_bytes = operator.size * operator.dtype.itemsize
    return max(count + 20, min(4 * count + 160, _BASIS_BYTES // row_bytes))


def _cut_short(spent: int, search: int) -> Note:
    text = (
        f"The search for further eigenvalues ended after {spent} of {search} products, at the most that were allowed."
    )
    return Note(code="search_cut_short", text=text)
