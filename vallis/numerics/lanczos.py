"""Certified eigenpairs of a symmetric operator: thick-restart Lanczos with full reorthogonalisation.

Every pair carries its residual ``|A v - value v|``, within which of the value there is an eigenvalue. The iteration
stops when all residuals are small enough, and says so when they are not. Small operators are written out and solved
densely, so that there even multiple eigenvalues are certain.

Source: Wu and Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from vallis.core.errors import SettingsError, UsageError
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Note
from vallis.numerics.asking import Asking, answered
from vallis.numerics.dense import dense_spectrum
from vallis.numerics.hunt import FEWEST_TO_SEARCH, Hunt
from vallis.numerics.operators import Operator, must_be_symmetric
from vallis.numerics.spectra import Spectrum
from vallis.numerics.wanted import Wanted

DENSE_SIZE = 256


def eigenpairs(
    operator: Operator,
    *,
    largest: int = 0,
    smallest: int = 0,
    magnitude: int = 0,
    rng: Rng,
    tolerance: float = 1e-4,
    max_products: int = 1000,
    search: int | None = None,
    start: torch.Tensor | None = None,
    dense_size: int = DENSE_SIZE,
) -> Spectrum:
    """The extreme eigenvalues of an operator, with vectors and residuals.

    A pair proves that there is an eigenvalue at its place, never that there is none beyond: a Krylov space holds one
    vector of a multiple eigenvalue, and at a loose tolerance it can end before a distinct one shows. `search` looks
    for both.

    Args:
        operator: it must be symmetric. Of `Parts` the cheap one is searched first.
        largest: how many from the upper end; more than P are cut to P.
        smallest: how many from the lower end.
        magnitude: how many of the largest magnitude, instead: those above zero come as the largest, those below as the
            smallest.
        rng: where the start vectors come from.
        tolerance: a pair has converged when its residual is at most this times the largest magnitude of an eigenvalue,
            and the error of its value (the residual squared over the gap) at most this times its own; a value below
            0.002 of the largest is held to that instead of to itself.
        max_products: the most products with the operator.
        search: after convergence, spend this many products on a random start outside of the space that was seen, and go
            on if that finds more extreme values. Zero does not look; None takes half as many as are wanted, and at
            least 5. Where `max_products` leave fewer than 5 of them, it stops with "max_products", not converged.
        start: ``(P, q)`` directions in which the eigenvectors nearly lie, such as those of the same network a moment
            ago: the iteration begins with their sum, which takes fewer products than a block of all. None begins with a
            random vector.
        dense_size: an operator of at most this size is written out, by P products, if `max_products` allows.

    Raises:
        SettingsError: a count is no integer or negative, the tolerance is not positive and finite, or rng is no Rng.
        UsageError: the operator is not symmetric, a product is not finite, or the start has another shape or points
            nowhere.
    """
    return answered(
        finding(
            operator,
            largest=largest,
            smallest=smallest,
            magnitude=magnitude,
            rng=rng,
            tolerance=tolerance,
            max_products=max_products,
            search=search,
            start=start,
            dense_size=dense_size,
        )
    )


def finding(
    operator: Operator,
    *,
    largest: int = 0,
    smallest: int = 0,
    magnitude: int = 0,
    rng: Rng,
    tolerance: float = 1e-4,
    max_products: int = 1000,
    search: int | None = None,
    start: torch.Tensor | None = None,
    dense_size: int = DENSE_SIZE,
) -> Asking[Spectrum]:
    """What `eigenpairs` does, as what asks for its products; see there."""
    must_be_rng(rng)
    must_be_symmetric(operator)
    _must_count(largest=largest, smallest=smallest, magnitude=magnitude, max_products=max_products)
    wanted = Wanted(largest=largest, smallest=smallest, magnitude=magnitude)
    if search is None:
        search = max(FEWEST_TO_SEARCH, wanted.count(operator.size) // 2)
    _must_count(search=search)
    if search < 0 or max_products < 1 or not 0 < tolerance < math.inf:
        raise SettingsError(
            "at least one product and a tolerance above 0, and finite, were required, "
            f"search={search}, max_products={max_products}, tolerance={tolerance} came: change them"
        )
    notes = _clamped(operator.size, wanted.most)
    wanted = wanted.within(operator.size)
    if operator.size <= min(dense_size, max_products):
        return (yield from dense_spectrum(operator, wanted, tolerance, notes))
    if start is not None:
        _must_span(start, operator.size)
    return (yield from Hunt(operator, wanted, tolerance, max_products, rng).run(search, start, notes))


def _must_count(**counts: object) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise SettingsError(f"a whole number was required for {name}, {count!r} came: give how many, as an int")


def _must_span(start: torch.Tensor, size: int) -> None:
    if not isinstance(start, torch.Tensor):
        raise UsageError(f"start directions as a tensor were required, a {type(start).__name__} came: give (P, q)")
    if start.ndim != 2 or start.shape[0] != size or not 0 < start.shape[1] <= size:
        raise UsageError(
            f"start directions of shape ({size}, q) were required, {tuple(start.shape)} came: one column a direction"
        )
    length = float(start.detach().double().sum(dim=1).norm())
    if not 0 < length < float("inf"):
        raise UsageError(
            f"start directions whose sum is finite and not zero were required, one of length {length:g} came: "
            "leave out what is NaN, and what cancels"
        )


def _clamped(size: int, wanted: int) -> tuple[Note, ...]:
    if wanted <= size:
        return ()
    text = f"{wanted} eigenvalues were asked for, and there are no more than {size}: one for each parameter."
    return (Note(code="fewer_eigenvalues", text=text),)
