"""The dense way to eigenpairs, for small operators."""

from __future__ import annotations

import numpy as np
import torch

from vallis.core.types import Note
from vallis.numerics.asking import Asking, answered, matrix_of
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Eigenpairs, Spectrum, must_be_finite, must_have_been_symmetric
from vallis.numerics.wanted import Wanted


def symmetric_matrix(operator: Operator) -> torch.Tensor:
    """``(P, P)`` in float64, exactly symmetric: the operator by P products.

    Raises:
        UsageError: a product is not finite, or the operator is not symmetric.
    """
    return answered(symmetric(operator))


def symmetric(operator: Operator) -> Asking[torch.Tensor]:
    """What `symmetric_matrix` does, as what asks for its products; see there."""
    matrix = yield from _written_out(operator)
    return (matrix + matrix.T) / 2


def _written_out(operator: Operator) -> Asking[torch.Tensor]:
    """As its products say, which may be symmetric up to rounding only."""
    matrix = (yield from matrix_of(operator)).double()
    must_be_finite(float(matrix.abs().sum()))
    difference, scale = float((matrix - matrix.T).abs().max()), float(matrix.norm(dim=0).max())
    must_have_been_symmetric(difference, scale, operator.dtype)
    return matrix


def dense_spectrum(
    operator: Operator, wanted: Wanted, tolerance: float = np.inf, notes: tuple[Note, ...] = ()
) -> Asking[Spectrum]:
    """The wanted pairs by P products, which it asks for, and a dense solver in float64, multiplicities included.

    Args:
        operator: of the P parameters.
        wanted: which pairs.
        tolerance: see `vallis.numerics.lanczos.eigenpairs`; what misses it is said not to have converged.
        notes: to go along.

    Raises:
        UsageError: a product is not finite, or the operator is not symmetric.
    """
    matrix = yield from _written_out(operator)
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    scale = float(values.abs().max())
    places = wanted.places(values.cpu().numpy())
    chosen, kept = values[places], vectors[:, places]
    residuals = (matrix @ kept - kept * chosen).norm(dim=0).cpu().numpy()
    # The solver's own rounding is no reason to say that more products would help.
    rounding = 100 * operator.size * torch.finfo(torch.float64).eps * scale
    pairs = Eigenpairs(
        values=chosen.cpu().numpy(),
        vectors=kept,
        residuals=residuals,
        converged=residuals <= max(tolerance * scale, rounding),
    )
    largest, smallest = wanted.ends(pairs)
    return Spectrum(
        largest=largest,
        smallest=smallest,
        scale=scale,
        num_products=operator.size,
        stop="dense",
        notes=notes,
    )
