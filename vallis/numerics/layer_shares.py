"""In which layers a direction of the whole network lies, and how much of its curvature they have by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.objective import Objective
from vallis.numerics.curvature import positions
from vallis.numerics.operators import Operator

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """What each layer has of a direction v of length one with ``v' H v = value``.

    Attributes:
        of_length: ``|v_l|^2``; they add up to one if the layers hold all parameters. Of an eigenvector this is also the
            share in the eigenvalue, with all that v_l does together with other layers: ``v_l' (H v)_l / value``.
        alone: ``v_l' H_ll v_l / value``, what the layer's own block has of it; the rest of one lies between layers.
    """

    of_length: Floats
    alone: Floats

    @property
    def between(self) -> float:
        """The share that comes of layers moving together, negative where they work against each other."""
        return float(1 - self.alone.sum())


def layer_shares(
    objective: Objective,
    vector: torch.Tensor,
    value: float,
    layers: Sequence[Sequence[str]],
    blocks: Sequence[Operator],
) -> Shares:
    """How a direction is spread over layers.

    Args:
        objective: whose parameters.
        vector: ``(P,)`` of length one.
        value: its curvature.
        layers: the parameters of each, by name.
        blocks: the block of the Hessian of each.
    """
    of_length, alone = [], []
    for names, block in zip(layers, blocks, strict=True):
        part = vector[positions(objective, names).to(vector.device)]
        of_length.append(float(part.double().square().sum()))
        alone.append(float(part.double() @ (block @ part).double()) / value)
    return Shares(of_length=np.array(of_length), alone=np.array(alone))
