"""The dense way to eigenpairs, for small operators."""

from __future__ import annotations

import numpy as np
import torch

from vallis.core.types import Note
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Eigenpairs, Spectrum, must_be_finite
from vallis.numerics.wanted import Wanted


def dense_spectrum(operator: Operator, wanted: Wanted, notes: tuple[Note, ...] = ()) -> Spectrum:
    """The wanted pairs by P products and a dense solver in float64, multiplicities included.

    Raises:
        UsageError: a product is not finite.
    """
    matrix = operator.dense().double()
    must_be_finite(float(matrix.abs().sum()))
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    places = wanted.places(values.cpu().numpy())
    chosen, kept = values[places], vectors[:, places]
    pairs = Eigenpairs(
        values=chosen.cpu().numpy(),
        vectors=kept,
        residuals=(matrix @ kept - kept * chosen).norm(dim=0).cpu().numpy(),
        converged=np.ones(len(places), dtype=bool),
    )
    largest, smallest = wanted.ends(pairs)
    return Spectrum(
        largest=largest,
        smallest=smallest,
        scale=float(values.abs().max()),
        num_products=operator.size,
        stop="dense",
        notes=notes,
    )
