"""Operators of low rank: what they are made of, and their eigenvalues through the Gram matrix."""

from __future__ import annotations

import numpy as np
import torch

from vallis.core.errors import UsageError
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Eigenpairs


class LowRank(Operator):
    """``A A'`` of columns A ``(P, R)``."""

    def __init__(self, columns: torch.Tensor) -> None:
        if columns.ndim != 2:
            raise UsageError(f"columns (P, R) were required, {tuple(columns.shape)} came: stack them")
        super().__init__(columns.shape[0], columns.dtype, columns.device)
        self.columns = columns

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return self.columns @ (self.columns.T @ vector)

    def trace(self) -> float:
        """The sum of all eigenvalues."""
        return float(self.columns.double().square().sum())

    def largest(self, count: int | None = None) -> Eigenpairs:
        """The largest eigenvalues with their vectors, from a dense solver on ``A' A``; of all R columns if None.

        Directions of no size are left out, so there may be fewer.
        """
        columns = self.columns.double()  # squares of small columns would be lost beside those of large ones
        values, turned = torch.linalg.eigh(columns.T @ columns)
        wanted = values.numel() if count is None else min(count, values.numel())
        values, turned = values.flip(0)[:wanted], turned.flip(1)[:, :wanted]
        rounding = max(1, columns.shape[1]) * torch.finfo(self.dtype).eps
        kept = values > rounding * float(values[0]) if len(values) else values > 0
        values, turned = values[kept], turned[:, kept]
        vectors = columns @ turned / values.sqrt()
        residuals = (columns @ (columns.T @ vectors) - vectors * values).norm(dim=0)
        return Eigenpairs(
            values=values.cpu().numpy(),
            vectors=vectors,
            residuals=residuals.cpu().numpy(),
            converged=np.ones(len(values), dtype=bool),
        )
