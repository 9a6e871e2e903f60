"""The curvature of an objective as operators: its Hessian, and the Gauss-Newton part of it.

Both are exact for any batches (each batch counts by its share), for tied parameters (which count once) and for
parameters that a batch does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

import torch

from vallis.core import tree
from vallis.core.catalog import unknown
from vallis.core.errors import LossError
from vallis.core.functional import differentiating
from vallis.core.objective import Objective, Term
from vallis.numerics.graphs import Graph, Graphs
from vallis.numerics.operators import Operator

Tensors = tuple[torch.Tensor, ...]


class Curvature(Operator, Generic[Graph]):
    """``sum_b share_b A_b`` over the batches b of an objective, with one graph a batch.

    Args:
        objective: the loss surface, at its origin.
        only: layers or parameters by name, which alone may move: the operator is then their block, and no work is
            spent on the rest; all if empty.
        budget: see `vallis.numerics.graphs.Graphs`.

    Raises:
        UnknownPart: no parameter and no layer has one of these names.
    """

    def __init__(self, objective: Objective, only: Sequence[str] = (), budget: int | None = None) -> None:
        chosen = select(objective.names, only)
        shapes = [value.shape for value, moves in zip(objective.origin, chosen, strict=True) if moves]
        super().__init__(sum(shape.numel() for shape in shapes), objective.dtype, torch.device(objective.device))
        self._shapes = shapes
        self._graphs = Graphs(objective, self._builder(chosen), budget)

    @property
    def num_kept(self) -> int:
        """How many graphs are held in memory."""
        return self._graphs.num_kept

    def clear(self) -> None:
        """Frees the graphs that are held; they are also freed with the operator."""
        self._graphs.clear()

    def _builder(self, chosen: tuple[bool, ...]) -> Callable[[Term], Graph]:
        raise NotImplementedError

    def _times(self, graph: Graph, parts: Tensors) -> Tensors:
        raise NotImplementedError

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        sizes = [shape.numel() for shape in self._shapes]
        parts = tuple(part.view(shape) for part, shape in zip(vector.split(sizes), self._shapes, strict=True))
        total = torch.zeros_like(vector)
        for share, found in self._graphs.map(lambda graph: self._times(graph, parts)):
            total.add_(torch.cat([part.reshape(-1) for part in found]), alpha=share)
        return total


@dataclass(frozen=True, eq=False)
class HessianGraph:
    """The gradient of a batch's loss as a function of the parameters that may move."""

    leaves: Tensors
    gradients: Tensors


class Hessian(Curvature[HessianGraph]):
    """The second derivatives of the mean loss, ``(P, P)``.

    A product is the derivative of ``gradient · vector`` (Pearlmutter 1994), by a second pass backwards.
    """

    def _builder(self, chosen: tuple[bool, ...]) -> Callable[[Term], HessianGraph]:
        return partial(_hessian_graph, chosen=chosen)

    def _times(self, graph: HessianGraph, parts: Tensors) -> Tensors:
        return pull(graph.gradients, graph.leaves, parts)


@dataclass(frozen=True, eq=False)
class GaussNewtonGraph:
    """A batch's network around its outputs z.

    Attributes:
        outputs: z as functions of the leaves.
        free: the same numbers, as variables.
        slopes: dL/dz as functions of `free`.
        duals: variables u, zero, that stand beside z.
        backward: ``J' u`` as functions of u.
    """

    leaves: Tensors
    outputs: Tensors
    free: Tensors
    slopes: Tensors
    duals: Tensors
    backward: Tensors


class GaussNewton(Curvature[GaussNewtonGraph]):
    """``G = mean J' (d²L/dz²) J`` with J the derivative of the network's outputs z, ``(P, P)``.

    It is the Hessian without the curvature of the network itself, and positive semidefinite where the loss is convex
    in the outputs; for cross-entropy it is the Fisher matrix.

    Raises:
        LossError: (at the first product) the loss has no scores, so there is no place to cut network from loss.
    """

    def _builder(self, chosen: tuple[bool, ...]) -> Callable[[Term], GaussNewtonGraph]:
        return partial(_gauss_newton_graph, chosen=chosen)

    def _times(self, graph: GaussNewtonGraph, parts: Tensors) -> Tensors:
        forward = pull(graph.backward, graph.duals, parts)  # u -> J'u is linear, so its own transpose is J
        bent = pull(graph.slopes, graph.free, forward)
        return pull(graph.outputs, graph.leaves, bent)


def select(names: Sequence[str], only: Sequence[str]) -> tuple[bool, ...]:
    """Which of the named parameters belong to these layers or parameters; all of them if none is named.

    Raises:
        UnknownPart: a name is neither a parameter nor a layer.
    """
    for wanted in only:
        if not any(_belongs(name, wanted) for name in names):
            layers = {name.rpartition(".")[0] for name in names} - {""}
            raise unknown("layer or parameter", wanted, [*names, *layers])
    return tuple(not only or any(_belongs(name, wanted) for wanted in only) for name in names)


def positions(objective: Objective, only: Sequence[str]) -> torch.Tensor:
    """``(Q,)`` the coordinates of these layers or parameters in a vector ``(P,)``.

    Raises:
        UnknownPart: a name is neither a parameter nor a layer.
    """
    chosen = select(objective.names, only)
    marks = [torch.full((value.numel(),), moves) for value, moves in zip(objective.origin, chosen, strict=True)]
    return torch.cat(marks).nonzero().reshape(-1)


def pull(outputs: Tensors, inputs: Tensors, vectors: Tensors, *, differentiable: bool = False) -> Tensors:
    """``J' v`` with J the derivative of outputs by inputs; zeros where nothing depends. The graph is kept.

    Args:
        outputs: functions of the inputs.
        inputs: tensors that require gradients.
        vectors: v, a tensor an output.
        differentiable: whether the result can be differentiated again.
    """
    live = [place for place, output in enumerate(outputs) if output.requires_grad]
    if not live:
        return tuple(torch.zeros_like(value) for value in inputs)
    return torch.autograd.grad(
        [outputs[place] for place in live],
        inputs,
        [vectors[place] for place in live],
        retain_graph=True,
        create_graph=differentiable,
        allow_unused=True,
        materialize_grads=True,
    )


def _belongs(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.")


def _leaves(term: Term, chosen: tuple[bool, ...]) -> tuple[Tensors, Tensors]:
    """The origin as a point whose chosen parameters are variables, and these alone."""
    point = tuple(
        value.detach().requires_grad_(moves) for value, moves in zip(term.objective.origin, chosen, strict=True)
    )
    return point, tuple(value for value in point if value.requires_grad)


def _hessian_graph(term: Term, chosen: tuple[bool, ...]) -> HessianGraph:
    with differentiating():
        point, leaves = _leaves(term, chosen)
        loss = term.loss(point)
        return HessianGraph(leaves, pull((loss,), leaves, (torch.ones_like(loss),), differentiable=True))


def _gauss_newton_graph(term: Term, chosen: tuple[bool, ...]) -> GaussNewtonGraph:
    with differentiating():
        point, leaves = _leaves(term, chosen)
        returned = term.outputs(point)
        if term.objective.loss.scores(returned) is None:
            raise LossError(
                "a loss of the network's predictions was required for Gauss-Newton, this one has none: "
                "say where they are with outputs=lambda returned: ..."
            )
        live = {id(leaf): leaf for leaf in tree.tensors(returned) if leaf.requires_grad}
        free = {place: leaf.detach().requires_grad_() for place, leaf in live.items()}
        loss = term.loss_of_outputs(_replaced(returned, free))
        slopes = pull((loss,), tuple(free.values()), (torch.ones_like(loss),), differentiable=True)
        duals = tuple(torch.zeros_like(leaf, requires_grad=True) for leaf in live.values())
        backward = pull(tuple(live.values()), leaves, duals, differentiable=True)
    return GaussNewtonGraph(leaves, tuple(live.values()), tuple(free.values()), slopes, duals, backward)


def _replaced(returned: Any, free: dict[int, torch.Tensor]) -> Any:
    return tree.map_tensors(lambda leaf: free.get(id(leaf), leaf), returned)
