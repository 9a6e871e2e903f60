"""The part of a Hessian that is not Gauss-Newton: the curvature of the network itself.

``H = G + R`` with ``R = mean sum_k (dL/dz_k) d²z_k/dθ²``, so that R vanishes where the network is linear in its weights
and where the loss is flat in its outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from vallis.core.errors import LossError
from vallis.core.functional import differentiating
from vallis.core.objective import Term
from vallis.numerics.curvature import Curvature
from vallis.numerics.cut import Forward
from vallis.numerics.derivatives import Tensors, pull
from vallis.numerics.written_backward import must_bend_as_written


@dataclass(frozen=True, eq=False)
class ResidualGraph:
    """``J' (dL/dz)`` of a batch as a function of the parameters that may move, dL/dz held fixed."""

    leaves: Tensors
    gradients: Tensors


class Residual(Curvature[ResidualGraph]):
    """The Hessian minus the Gauss-Newton matrix, ``(P, P)``, without making either; it may have either sign.

    A product costs what one of the Hessian does: it is one, of the loss that is linear in the outputs with the slopes
    that the loss has at the origin. The cut is that of `GaussNewton`, at what the network returns.

    Raises:
        LossError: (at the first product) the loss has no scores, so there is no place to cut network from loss.
    """

    def _builder(self, chosen: tuple[bool, ...]) -> Callable[[Term], ResidualGraph]:
        return partial(_residual_graph, chosen=chosen)

    def _times(self, graph: ResidualGraph, parts: Tensors) -> Tensors:
        return pull(graph.gradients, graph.leaves, parts)


def _residual_graph(term: Term, chosen: tuple[bool, ...]) -> ResidualGraph:
    network = Forward.of(term, chosen, twice=True)
    if term.objective.loss.scores(network.returned) is None:
        raise LossError(
            "a loss of the network's predictions was required for the residual, this one has none: "
            "say where they are with outputs=lambda returned: ..."
        )
    slopes = network.slopes(term)
    with differentiating():
        must_bend_as_written(term, chosen, term.loss_of_outputs(network.returned))
        gradients = pull(network.live, network.leaves, slopes, differentiable=True)
    return ResidualGraph(network.leaves, gradients)
