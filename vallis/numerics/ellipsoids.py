"""Ellipsoids in weight space, layer by layer: narrow where the loss bends, in closed form.

With curvatures kappa (eigenvalues of a matrix in relative coordinates, see `vallis.numerics.rays`) and a damping lambda
the half-axes are ``1 / sqrt(kappa + lambda)``. A weight W ``(m, n)`` of a layer with Kronecker factors has the axes of
``S E[M] S ⊗ E[x x']``, S being the diagonal matrix of the norms of its filters, which the coordinates are counted in.
What has no factors keeps its own axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.curvature import GaussNewton
from vallis.numerics.kronecker import factors
from vallis.numerics.rays import Frame, Parts

Structure = Literal["kronecker", "diagonal"]
_PROBES = 4
# Columns of the root of a loss's curvature that are pulled back one by one; of more, random combinations.
_MOST_COLUMNS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """The curvature of one parameter in relative coordinates, in its own axes.

    Attributes:
        alive: ``(a,)`` the filters that are not zero.
        curvatures: ``(a, n)`` float64, at least 0.
        outputs: ``(a, a)`` orthonormal columns that mix filters; None where filters and their weights are the axes.
        inputs: ``(n, n)`` that mix the weights of a filter; None together with the former.
    """

    alive: torch.Tensor
    curvatures: torch.Tensor
    outputs: torch.Tensor | None = None
    inputs: torch.Tensor | None = None


class LayerEllipsoid:
    """An ellipsoid with the axes of some blocks.

    Args:
        blocks: one a parameter; None where it does not move.
        damping: lambda, relative to the mean of all curvatures.
    """

    def __init__(self, blocks: Sequence[Block | None], damping: float) -> None:
        self.blocks, self.damping = tuple(blocks), damping
        mean = _mean_curvature(self.blocks)
        added = damping * mean if mean > 0 else 1.0  # flat everywhere: a sphere
        self._axes = [None if block is None else (block.curvatures + added).rsqrt() for block in self.blocks]

    @property
    def log_determinant(self) -> float:
        """The sum of the logarithms of the half-axes."""
        return sum(float(axes.log().sum()) for axes in self._axes if axes is not None)

    def stretch(self, noise: Parts) -> Parts:
        """Vectors ``(K, *shape)`` for each parameter that moves, as ``Q diag(half-axes) Q'`` times them."""
        return tuple(
            None if part is None or block is None or axes is None else _stretched(part, block, axes)
            for part, block, axes in zip(noise, self.blocks, self._axes, strict=True)
        )


def blocks_at(
    objectives: Sequence[Objective], frame: Frame, rng: Rng, structure: Structure = "kronecker"
) -> tuple[Block | None, ...]:
    """The mean curvature of every parameter over some points, in relative coordinates.

    It is that of the Gauss-Newton matrix: from Kronecker factors where a layer has them ("diagonal" takes only their
    diagonals), and else the mean diagonal of every filter, estimated with random signs.

    Args:
        objectives: one loss surface, around the points.
        frame: the coordinates.
        rng: the random signs.
        structure: see above.

    Raises:
        LossError: the loss has no scores, or is not convex in them.
    """
    outputs: dict[str, torch.Tensor] = {}
    inputs: dict[str, torch.Tensor] = {}
    for place, objective in enumerate(objectives):
        found = factors(objective, max_columns=_MOST_COLUMNS, rng=rng.child("columns", place))
        for each in found.values():
            name = each.names[0]
            outputs[name] = outputs.get(name, 0) + each.outputs.cpu() / len(objectives)
            inputs[name] = inputs.get(name, 0) + each.inputs.cpu() / len(objectives)
    names = objectives[0].names
    others = [n for n, scale in zip(names, frame.scales, strict=True) if scale is not None and n not in outputs]
    diagonals = _diagonals(objectives, others, rng.child("signs")) if others else {}
    blocks: list[Block | None] = []
    for name, scale in zip(names, frame.scales, strict=True):
        if scale is None:
            blocks.append(None)
        elif name in outputs:
            blocks.append(_kronecker_block(scale.reshape(-1), outputs[name], inputs[name], structure))
        else:
            blocks.append(_filter_block(scale.reshape(-1), diagonals[name]))
    return tuple(blocks)


def _kronecker_block(scale: torch.Tensor, outputs: torch.Tensor, inputs: torch.Tensor, structure: Structure) -> Block:
    alive = scale.nonzero().reshape(-1)
    scaled = (outputs * scale[:, None] * scale)[alive][:, alive]
    if structure == "diagonal":
        return Block(alive=alive, curvatures=torch.outer(scaled.diagonal(), inputs.diagonal()).clamp(min=0))
    (a, u), (b, v) = (torch.linalg.eigh((matrix + matrix.T) / 2) for matrix in (scaled, inputs))
    return Block(alive=alive, curvatures=torch.outer(a.clamp(min=0), b.clamp(min=0)), outputs=u, inputs=v)


def _filter_block(scale: torch.Tensor, diagonal: torch.Tensor) -> Block:
    """Of a parameter without factors: every filter has one curvature, for a diagonal of few probes is rough."""
    alive = scale.nonzero().reshape(-1)
    rows = diagonal.flatten(1)[alive]
    mean = (rows.mean(1, keepdim=True) * scale[alive, None].square()).clamp(min=0)
    return Block(alive=alive, curvatures=mean.expand_as(rows).contiguous())


def _diagonals(objectives: Sequence[Objective], names: Sequence[str], rng: Rng) -> Mapping[str, torch.Tensor]:
    """The diagonal of the Gauss-Newton matrix for some parameters, in their shapes; an estimate without bias."""
    first = objectives[0]
    shapes = {n: value.shape for n, value in zip(first.names, first.origin, strict=True) if n in names}
    total = torch.zeros(sum(shape.numel() for shape in shapes.values()), dtype=torch.float64)
    for place, objective in enumerate(objectives):
        operator = GaussNewton(objective, only=names)
        for probe in range(_PROBES):
            generator = rng.child(place, probe).torch()
            signs = torch.randint(0, 2, total.shape, generator=generator).double() * 2 - 1
            total += signs * operator.matvec(signs).double().cpu() / (_PROBES * len(objectives))
    parts = total.split([shape.numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _mean_curvature(blocks: Sequence[Block | None]) -> float:
    found = [block.curvatures for block in blocks if block is not None]
    return float(sum(each.sum() for each in found)) / max(1, sum(each.numel() for each in found))


def _stretched(part: torch.Tensor, block: Block, axes: torch.Tensor) -> torch.Tensor:
    found = part.flatten(2)[:, block.alive]
    if block.outputs is not None and block.inputs is not None:
        # There and back: a function of the matrix, whichever eigenvectors stand for an eigenvalue that comes twice.
        found = block.outputs @ ((block.outputs.T @ found @ block.inputs) * axes) @ block.inputs.T
    else:
        found = found * axes
    whole = torch.zeros(len(part), part.shape[1], found.shape[2], dtype=part.dtype)
    whole[:, block.alive] = found
    return whole.view(part.shape)
