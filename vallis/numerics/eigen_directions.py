"""The directions in weight space along which the loss bends most, in weights or in norms of filters.

Source: Huang et al. (2019), Understanding generalization through visualizations, section 4; Yao et al. (2020),
    PyHessian: neural networks through the lens of the Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.directions import Tensors, filter_lengths, without_normalisation
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Operator
from vallis.numerics.spectra import Spectrum


@dataclass(frozen=True, kw_only=True, eq=False)
class EigenDirections:
    """Directions of most curvature with the proof that they are such.

    Attributes:
        largest: a direction each for the largest eigenvalues, falling; a tensor a parameter.
        smallest: likewise for the smallest, rising.
        spectrum: their eigenvalues and residuals, and whether they have converged.
    """

    largest: tuple[Tensors, ...]
    smallest: tuple[Tensors, ...]
    spectrum: Spectrum


class FilterScaledHessian(Operator):
    """``S H S`` with S the diagonal of the norms of the filters: the Hessian in coordinates relative to the filters.

    Its rows and columns of biases, normalisation and dead filters are zero.

    Args:
        objective: the loss surface, at its origin.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective.num_parameters, objective.dtype, objective.device)
        self._hessian = Hessian(objective)
        alone = without_normalisation(objective.module, objective.names, objective.origin)
        self.scales = objective.vector(filter_lengths(alone))

    def clear(self) -> None:
        """Frees the graphs that are held."""
        self._hessian.clear()

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return self.scales * self._hessian.matvec(self.scales * vector)


def hessian_directions(
    objective: Objective,
    *,
    largest: int = 2,
    smallest: int = 0,
    rng: Rng,
    filter_scaled: bool = False,
    tolerance: float = 1e-2,
    max_products: int = 300,
) -> EigenDirections:
    """Eigenvectors of the Hessian as directions; the largest entry of each is positive.

    Args:
        objective: the loss surface, at its origin.
        largest: how many of the largest eigenvalues.
        smallest: how many of the smallest.
        rng: where the iteration begins.
        filter_scaled: take the Hessian in coordinates relative to the norms of the filters (`FilterScaledHessian`); a
            step of length c along a direction then is of length c in these coordinates. Otherwise directions have
            length 1 in weight space.
        tolerance: see `vallis.numerics.lanczos.eigenpairs`.
        max_products: the most products with the Hessian, each two gradients.

    Raises:
        SettingsError: see `eigenpairs`.
        UsageError: see `eigenpairs`.
    """
    must_be_rng(rng)
    operator = FilterScaledHessian(objective) if filter_scaled else Hessian(objective)
    try:
        found = eigenpairs(
            operator, largest=largest, smallest=smallest, rng=rng, tolerance=tolerance, max_products=max_products
        )
    finally:
        operator.clear()
    scales = operator.scales if isinstance(operator, FilterScaledHessian) else None
    ends = [
        tuple(_direction(objective, vector, scales) for vector in pairs.vectors.T)
        for pairs in (found.largest, found.smallest)
    ]
    return EigenDirections(largest=ends[0], smallest=ends[1], spectrum=found)


def _direction(objective: Objective, vector: torch.Tensor, scales: torch.Tensor | None) -> Tensors:
    sign = vector[vector.abs().argmax()].sign()
    turned = (vector * sign).to(device=objective.device, dtype=objective.dtype)
    return objective.point(turned if scales is None else turned * scales)
