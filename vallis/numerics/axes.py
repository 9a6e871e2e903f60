"""Orthonormal axes of weight space, layer by layer: a rotation of millions of weights that is never written out.

The axes of a layer with weights W ``(m, n)`` are ``u_i ⊗ v_j``, with u_i the eigenvectors of E[M] and v_j those of
E[x x']: the eigenvectors of the layer's Hessian, where it is the Kronecker product of the two. A bias has the axes u_i.

Source: Wu et al. (2020), Dissecting Hessian, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vallis.core.objective import Objective
from vallis.numerics.kronecker import Factors

_CHOICE = 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """The axes of one parameter.

    Attributes:
        start: its first coordinate in a vector ``(P,)``.
        outputs: U ``(m, m)``, orthonormal rows.
        inputs: V ``(n, n)``, orthonormal rows; None where the parameter is a vector ``(m,)``.
    """

    start: int
    outputs: torch.Tensor
    inputs: torch.Tensor | None = None

    @property
    def size(self) -> int:
        """How many coordinates it has."""
        return len(self.outputs) * (1 if self.inputs is None else len(self.inputs))


class Axes:
    """A rotation Q of vectors ``(P,)``, which leaves alone what is in no block.

    Args:
        blocks: of parameters that do not overlap.
    """

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        self.blocks = tuple(blocks)

    def turn(self, vector: torch.Tensor) -> torch.Tensor:
        """``(P,)`` Q v: the coordinates along the axes."""
        return self._applied(vector, forth=True)

    def back(self, vector: torch.Tensor) -> torch.Tensor:
        """``(P,)`` Q' v: the weights with these coordinates."""
        return self._applied(vector, forth=False)

    def _applied(self, vector: torch.Tensor, forth: bool) -> torch.Tensor:
        if not self.blocks:
            return vector
        turned = vector.clone()
        for block in self.blocks:
            part = vector[block.start : block.start + block.size].view(len(block.outputs), -1)
            found = (block.outputs if forth else block.outputs.T) @ part
            if block.inputs is not None:
                found = found @ (block.inputs.T if forth else block.inputs)
            turned[block.start : block.start + block.size] = found.reshape(-1)
        return turned


def kronecker_axes(objective: Objective, factors: Mapping[str, Factors]) -> Axes:
    """The axes in which the Kronecker factors of the layers are diagonal, sorted by eigenvalue.

    Sorted, axis i keeps its meaning when the factors are computed anew at another point. Parameters without factors
    keep the standard axes.
    """
    starts, place = {}, 0
    for name, value in zip(objective.names, objective.origin, strict=True):
        starts[name], place = place, place + value.numel()
    blocks = []
    for layer in factors.values():
        outputs, inputs = (_eigenvectors(part, objective) for part in (layer.outputs, layer.inputs))
        blocks.append(Block(start=starts[layer.names[0]], outputs=outputs, inputs=inputs))
        blocks += [Block(start=starts[name], outputs=outputs) for name in layer.names[1:]]
    return Axes(blocks)


def _eigenvectors(matrix: torch.Tensor, objective: Objective) -> torch.Tensor:
    """``(m, m)`` the eigenvectors as rows, that of the largest eigenvalue last, each with its largest entry positive.

    Axes of one eigenvalue, as those of all dead inputs, are anybody's choice: a slope along the diagonal, far below any
    eigenvalue that matters and far above rounding, makes it the standard axes, and always the same.
    """
    matrix = matrix.double()
    slope = torch.linspace(0, 1, len(matrix), dtype=matrix.dtype, device=matrix.device)
    scale = _CHOICE * float(matrix.diagonal().abs().max()) or _CHOICE
    rows: torch.Tensor = torch.linalg.eigh((matrix + matrix.T) / 2 + torch.diag(scale * slope)).eigenvectors.T
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return (rows * largest.sign()).contiguous().to(device=objective.device, dtype=objective.dtype)
