"""A batch's graph cut between network and loss: what both sides of the cut are functions of.

The network goes from the parameters that may move to its outputs z, and the loss from z to a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vallis.core import tree
from vallis.core.functional import differentiating
from vallis.core.objective import Term
from vallis.numerics.convolutions import OwnConvolutions
from vallis.numerics.derivatives import Tensors, pull
from vallis.numerics.written_backward import must_be_transposed, must_slope_as_written


@dataclass(frozen=True, eq=False)
class Forward:
    """A batch's network at the origin.

    Attributes:
        leaves: the parameters that may move, as variables.
        returned: what the network returns, a function of them.
    """

    leaves: Tensors
    returned: Any

    @staticmethod
    def of(term: Term, chosen: tuple[bool, ...], *, twice: bool) -> Forward:
        """The network where only the chosen parameters are variables.

        Args:
            term: the batch.
            chosen: which parameters.
            twice: whether its derivatives are to be differentiated by the parameters once more.

        Raises:
            ModelError: a function with a backward pass of its own is no derivative.
        """
        with differentiating(), OwnConvolutions(twice=twice):
            point, leaves = variables(term, chosen)
            found = Forward(leaves, term.outputs(point))
        must_slope_as_written(term, chosen, found.live)
        return found

    @property
    def live(self) -> Tensors:
        """The tensors in what the network returns that depend on the leaves, each once."""
        found = {id(leaf): leaf for leaf in tree.tensors(self.returned) if leaf.requires_grad}
        return tuple(found.values())

    def slopes(self, term: Term) -> Tensors:
        """dL/dz of the batch's mean loss by each live tensor."""
        _, slopes = self.bending_slopes(term)
        return tuple(slope.detach() for slope in slopes)

    def bending_slopes(self, term: Term) -> tuple[Tensors, Tensors]:
        """The live tensors as variables of their own, and dL/dz as functions of these."""
        free = {id(leaf): leaf.detach().requires_grad_() for leaf in self.live}
        places = tuple(free.values())
        with differentiating():
            loss = term.loss_of_outputs(tree.map_tensors(lambda leaf: free.get(id(leaf), leaf), self.returned))
            return places, pull((loss,), places, (torch.ones_like(loss),), differentiable=True)


@dataclass(frozen=True, eq=False)
class Linear:
    """The network as the linear map J at the origin, and its transpose.

    Attributes:
        outputs: functions of the leaves.
        duals: zeros u that stand beside the outputs.
        backward: ``J' u`` as functions of u.
    """

    leaves: Tensors
    outputs: Tensors
    duals: Tensors
    backward: Tensors

    @staticmethod
    def of(leaves: Tensors, outputs: Tensors) -> Linear:
        """The derivative of these outputs by the leaves.

        Raises:
            ModelError: a function with a backward pass of its own hides a part of it.
        """
        with differentiating():
            duals = tuple(torch.zeros_like(output, requires_grad=True) for output in outputs)
            found = Linear(leaves, outputs, duals, pull(outputs, leaves, duals, differentiable=True))
        must_be_transposed(outputs, found.forward, found.back, leaves)
        return found

    def forward(self, parts: Tensors) -> Tensors:
        """``J v``: u -> J'u is linear, so its own transpose is J."""
        return pull(self.backward, self.duals, parts)

    def back(self, slopes: Tensors) -> Tensors:
        """``J' u``."""
        return pull(self.outputs, self.leaves, slopes)


def variables(term: Term, chosen: tuple[bool, ...]) -> tuple[Tensors, Tensors]:
    """The origin as a point whose chosen parameters are variables, and these alone."""
    point = tuple(
        value.detach().requires_grad_(moves) for value, moves in zip(term.objective.origin, chosen, strict=True)
    )
    return point, tuple(value for value in point if value.requires_grad)
