"""Which eigenvectors of a layer are more than rounding, and what is said where some did not converge."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vallis.core.types import Note
from vallis.measurements.curvature._words import listed
from vallis.numerics.means import Floats

# Below this share of the largest eigenvalue, or of the error in it, an eigenvector is any.
_RESOLVED = {torch.float64: 1e-8, torch.float32: 1e-4}


def num_resolved(values: Floats, dtype: torch.dtype) -> int:
    """How many of the first eigenvalues, falling, are positive and more than rounding in this floating type."""
    if not len(values) or not values[0] > 0:
        return 0
    return int((values > _RESOLVED.get(dtype, 1e-4) * values[0]).cumprod().sum())


def not_converged(layers: Sequence[str]) -> tuple[Note, ...]:
    """A note that names the layers whose eigenvectors are not all within the tolerance; none for no layers."""
    if not layers:
        return ()
    text = f"Not all eigenvectors that were asked for converged in {listed(layers)}."
    return (Note(code="not_converged", text=text),)
