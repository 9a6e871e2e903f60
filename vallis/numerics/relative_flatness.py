"""Relative flatness of a layer: its Hessian, weighted with how large its weights are and how they point.

For the weights W ``(m, n)`` of a layer with rows w_s, and the blocks H_st ``(n, n)`` of the layer's Hessian::

    kappa = sum_{s,t} <w_s, w_t> Tr(H_st) = Tr(A' H A),  A = R ⊗ I_n,  R R' = W W'.

So it is the trace of an operator, exact for small layers and with an error bar for large ones. Scaling W by a number
that another layer divides out changes nothing.

Source: Petzka, Kamp, Adilova, Sminchisescu and Boley (2021), Relative flatness and generalization, definition 3.
"""

from __future__ import annotations

import torch

from vallis.core.errors import UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.operators import Operator
from vallis.numerics.trace import EXACT_SIZE, Trace, trace


class RelativeCurvature(Operator):
    """``A' H A`` of one weight, whose trace is the relative flatness, ``(r n, r n)`` with r at most m and n.

    Args:
        objective: the loss surface.
        weight: the name of a parameter of at least two axes; its first axis counts the units.

    Raises:
        UnknownPart: no parameter has this name.
        UsageError: the parameter has fewer axes.
    """

    def __init__(self, objective: Objective, weight: str) -> None:
        self._hessian = Hessian(objective, only=[weight])
        self._root, num_inputs = _root(objective.origin[objective.names.index(weight)], weight)
        super().__init__(self._root.shape[1] * num_inputs, objective.dtype, torch.device(objective.device))

    def clear(self) -> None:
        """Frees the graphs that are held."""
        self._hessian.clear()

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        turned = self._root @ vector.view(self._root.shape[1], -1)
        bent = self._hessian.matvec(turned.reshape(-1)).view_as(turned)
        return (self._root.T @ bent).reshape(-1)


def relative_flatness(
    objective: Objective, weight: str, *, num_probes: int, rng: Rng, exact_size: int = EXACT_SIZE
) -> Trace:
    """The relative flatness of a layer, as a trace with an error bar over probes.

    Args:
        objective: the loss surface.
        weight: the name of the layer's weight.
        num_probes: K, random vectors, two gradients of this layer each.
        rng: where they come from.
        exact_size: up to this many numbers it is summed up exactly.

    Raises:
        UnknownPart: no parameter has this name.
        UsageError: the parameter has less than two axes, or a product is not finite.
        SettingsError: no probe is asked for.
    """
    must_be_rng(rng)
    operator = RelativeCurvature(objective, weight)
    try:
        return trace(operator, num_probes=num_probes, rng=rng, exact_size=exact_size)
    finally:
        operator.clear()


def _root(value: torch.Tensor, name: str) -> tuple[torch.Tensor, int]:
    """R ``(m, r)`` with ``R R' = W W'``, the smaller of two that are at hand, and n."""
    if value.ndim < 2:
        raise UsageError(f"a weight with units and inputs was required, {name} has {value.ndim} axes: name another")
    matrix = value.detach().flatten(1)
    if matrix.shape[1] <= matrix.shape[0]:
        return matrix, matrix.shape[1]
    squares, axes = torch.linalg.eigh(matrix.double() @ matrix.double().T)
    return (axes * squares.clamp(min=0).sqrt()).to(matrix.dtype), matrix.shape[1]
