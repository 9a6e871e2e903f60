"""The diagonal blocks of a Hessian, a layer each, from one graph of the whole network a batch.

A block is the curvature while all other layers stand still. A product with one runs through the layers above it only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from vallis.core.objective import Objective, Term
from vallis.numerics.curvature import HessianGraph, OnGraphs, hessian_graph, named, select
from vallis.numerics.derivatives import Tensors, pull
from vallis.numerics.graphs import Graphs


def layer_blocks(
    objective: Objective, layers: Sequence[str] = (), budget: int | None = None
) -> Mapping[str, LayerBlock]:
    """The block of each layer, by its name, in the order of the parameters.

    Args:
        objective: the loss surface, at its origin.
        layers: which layers or parameters, each with all that is below it; every module with the parameters of its own
            if empty.
        budget: bytes that the graphs may take, which all blocks share; see `vallis.numerics.graphs.Graphs`.

    Raises:
        UnknownPart: no parameter and no layer has one of these names.
    """
    if layers:
        chosen = {name: select(objective, name) for name in named(layers)}
    else:
        owners = [owner_of(name) for name in objective.names]
        chosen = {owner: tuple(other == owner for other in owners) for owner in dict.fromkeys(owners)}
    moving = tuple(any(marks) for marks in zip(*chosen.values(), strict=True))
    graphs = Graphs(objective, partial(hessian_graph, chosen=moving), budget)
    kept = [place for place, moves in enumerate(moving) if moves]
    return {
        name: LayerBlock(objective, marks, graphs, [at for at, place in enumerate(kept) if marks[place]])
        for name, marks in chosen.items()
    }


def owner_of(parameter: str) -> str:
    """The name of the module that owns a parameter; that of the parameter, where it is the model itself."""
    return parameter.rpartition(".")[0] or parameter


class LayerBlock(OnGraphs[HessianGraph]):
    """The Hessian's block of some parameters, ``(Q, Q)``.

    Args:
        objective: the loss surface.
        chosen: which of its parameters.
        graphs: those of a Hessian in which at least these move.
        places: where they are among those that move.
    """

    def __init__(
        self, objective: Objective, chosen: Sequence[bool], graphs: Graphs[Term, HessianGraph], places: Sequence[int]
    ) -> None:
        super().__init__(objective, chosen, graphs)
        self._places = places

    def _times(self, graph: HessianGraph, parts: Tensors) -> Tensors:
        gradients = tuple(graph.gradients[place] for place in self._places)
        return pull(gradients, tuple(graph.leaves[place] for place in self._places), parts)
