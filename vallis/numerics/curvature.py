"""The curvature of an objective as operators: its Hessian, and the Gauss-Newton part of it.

Both are exact for any batches (each batch counts by its share), for tied parameters (which count once) and for
parameters that a batch does not use.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self

import torch

from vallis.core.catalog import unknown
from vallis.core.errors import LossError, SettingsError, UnknownPart
from vallis.core.functional import differentiating
from vallis.core.objective import Objective, Term
from vallis.numerics.at import READING, objective_of
from vallis.numerics.convolutions import OwnConvolutions
from vallis.numerics.cut import Forward, Linear, variables
from vallis.numerics.derivatives import Tensors, pull
from vallis.numerics.graphs import Graph, Graphs
from vallis.numerics.operators import Operator
from vallis.numerics.written_backward import must_bend_as_written


class OnGraphs(Operator, Generic[Graph]):
    """``sum_b share_b A_b`` over the batches b of an objective, with one graph a batch.

    Args:
        objective: the loss surface, at its origin.
        chosen: which of its parameters a vector is made of.
        graphs: the graphs, which other operators may use as well.
    """

    def __init__(self, objective: Objective, chosen: Sequence[bool], graphs: Graphs[Term, Graph]) -> None:
        shapes = [value.shape for value, moves in zip(objective.origin, chosen, strict=True) if moves]
        super().__init__(sum(shape.numel() for shape in shapes), objective.dtype, torch.device(objective.device))
        self._shapes = shapes
        self._graphs = graphs

    @property
    def num_kept(self) -> int:
        """How many graphs are held in memory."""
        return self._graphs.num_kept

    def clear(self) -> None:
        """Frees the graphs that are held; they are also freed with the operator."""
        self._graphs.clear()

    @abstractmethod
    def _times(self, graph: Graph, parts: Tensors) -> Tensors:
        """A_b times a vector, both in the shapes of the chosen parameters."""

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        sizes = [shape.numel() for shape in self._shapes]
        parts = tuple(part.view(shape) for part, shape in zip(vector.split(sizes), self._shapes, strict=True))
        total = torch.zeros_like(vector)
        for share, found in self._graphs.map(lambda graph: self._times(graph, parts)):
            total.add_(torch.cat([part.reshape(-1) for part in found]), alpha=share)
        return total


class Curvature(OnGraphs[Graph]):
    """An operator with graphs of its own.

    Args:
        objective: the loss surface, at its origin.
        only: layers or parameters by name, which alone may move: the operator is then their block, and no work is
            spent on the rest; all if empty. One string is one name.
        budget: see `vallis.numerics.graphs.Graphs`.

    Raises:
        UnknownPart: no parameter and no layer has one of these names, or some of what it has is tied and lives under a
            name that is not among them.
        SettingsError: they are no strings.
    """

    def __init__(self, objective: Objective, only: Sequence[str] = (), budget: int | None = None) -> None:
        chosen = select(objective, only)
        super().__init__(objective, chosen, Graphs(objective, self._builder(chosen), budget))

    @classmethod
    def of(cls, held: Any, loss: Callable[..., Any] | None = None, data: Any = None, **options: Any) -> Self:
        """The operator around a plain module with its loss and data, or around a solution.

        Args:
            held: the module, or a `Solution`.
            loss: ``(outputs, targets) -> mean``, beside a module.
            data: ``(x, y)``, a Dataset, a DataLoader or a list of batches, beside a module.
            **options: how the data are read, as `vallis.numerics.at.objective_of` takes it, and what else the operator
                takes, such as ``only=["head"]``.

        Raises:
            VallisError: see `objective_of`.
        """
        reading = {name: value for name, value in options.items() if name in READING}
        rest = {name: value for name, value in options.items() if name not in READING}
        return cls(objective_of(held, loss, data, **reading), **rest)

    @abstractmethod
    def _builder(self, chosen: tuple[bool, ...]) -> Callable[[Term], Graph]:
        """What makes the graph of a batch in which these parameters may move."""


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
        return partial(hessian_graph, chosen=chosen)

    def _times(self, graph: HessianGraph, parts: Tensors) -> Tensors:
        return pull(graph.gradients, graph.leaves, parts)


@dataclass(frozen=True, eq=False)
class GaussNewtonGraph:
    """A batch's network, cut from its loss at what it returns.

    Attributes:
        network: the derivative J of the returned z, and its transpose.
        free: the numbers z, as variables.
        slopes: dL/dz as functions of `free`.
    """

    network: Linear
    free: Tensors
    slopes: Tensors


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
        return graph.network.back(pull(graph.slopes, graph.free, graph.network.forward(parts)))


def named(names: Sequence[str]) -> tuple[str, ...]:
    """Names as they were given; a string, which is a sequence of letters too, is one name.

    Raises:
        SettingsError: they are no strings.
    """
    if isinstance(names, str):
        return (names,)
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    if not all(isinstance(name, str) for name in found):
        raise SettingsError(f"names of layers or parameters were required, {names!r} came: give strings")
    return found


def select(objective: Objective, only: Sequence[str]) -> tuple[bool, ...]:
    """Which of the parameters belong to these layers or parameters; all of them if none is named.

    Raises:
        UnknownPart: a name is neither a parameter nor a layer, or one of its parameters is tied and lives under another
            name that is not among them.
        SettingsError: they are no strings.
    """
    only, names = named(only), objective.names
    for wanted in only:
        if any(_belongs(name, wanted) for name in names):
            continue
        tied = next(iter(_tied(objective, wanted).items()), None)
        if tied is not None:
            raise UnknownPart(f"no parameters of its own has {wanted!r}; {tied[0]} is tied and lives as {tied[1]!r}")
        layers = {name.rpartition(".")[0] for name in names} - {""}
        raise unknown("layer or parameter", wanted, [*names, *layers])
    chosen = tuple(not only or any(_belongs(name, wanted) for wanted in only) for name in names)
    for wanted in only:
        _must_be_whole(objective, wanted, {name for name, moves in zip(names, chosen, strict=True) if moves})
    return chosen


def _must_be_whole(objective: Objective, wanted: str, chosen: set[str]) -> None:
    """A layer of which one parameter lives elsewhere is no block: what is left of it alone is not what was meant."""
    for name, home in _tied(objective, wanted).items():
        if home not in chosen:
            own = next(each for each in objective.names if _belongs(each, wanted))
            raise UnknownPart(
                f"not all parameters of {wanted!r} are its own; {name} is tied and lives as {home!r}: "
                f"name {home!r} too, which moves both, or only what is its own, such as {own!r}"
            )


def _tied(objective: Objective, wanted: str) -> dict[str, str]:
    """The other names of parameters under that name or layer, and those under which they are known."""
    held = list(objective.module.named_parameters(remove_duplicate=False))
    known = {id(value): name for name, value in reversed(held) if name in objective.names}
    return {
        name: known[id(value)]
        for name, value in held
        if _belongs(name, wanted) and id(value) in known and known[id(value)] != name
    }


def positions(objective: Objective, only: Sequence[str]) -> torch.Tensor:
    """``(Q,)`` the coordinates of these layers or parameters in a vector ``(P,)``.

    Raises:
        UnknownPart: a name is neither a parameter nor a layer.
    """
    chosen = select(objective, only)
    marks = [torch.full((value.numel(),), moves) for value, moves in zip(objective.origin, chosen, strict=True)]
    return torch.cat(marks).nonzero().reshape(-1)


def hessian_graph(term: Term, chosen: tuple[bool, ...]) -> HessianGraph:
    """The graph of a batch, of the chosen parameters."""
    with differentiating(), OwnConvolutions():
        point, leaves = variables(term, chosen)
        loss = term.loss(point)
        must_bend_as_written(term, chosen, loss)
        return HessianGraph(leaves, pull((loss,), leaves, (torch.ones_like(loss),), differentiable=True))


def _belongs(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.")


def _gauss_newton_graph(term: Term, chosen: tuple[bool, ...]) -> GaussNewtonGraph:
    network = Forward.of(term, chosen, twice=False)
    if term.objective.loss.scores(network.returned) is None:
        raise LossError(
            "a loss of the network's predictions was required for Gauss-Newton, this one has none: "
            "say where they are with outputs=lambda returned: ..."
        )
    free, slopes = network.bending_slopes(term)
    return GaussNewtonGraph(Linear.of(network.leaves, network.live), free, slopes)
