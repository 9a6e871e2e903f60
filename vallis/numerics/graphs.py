"""Keeps the graphs of an objective's batches, as many as fit into memory, and rebuilds the others at every pass.

A product with a kept graph costs half of one that is built anew, and gives the same bits: so how much memory happens to
be free changes the time and never a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch

from vallis.core import tree
from vallis.core.types import Batch
from vallis.numerics.memory import graph_bytes, spare_bytes

Graph = TypeVar("Graph")
Found = TypeVar("Found")


class OfBatch(Protocol):
    """A batch's share of a whole: a `Term` of an objective, or what several objectives have instead."""

    @property
    def share(self) -> Any:
        """How much it counts."""
        ...

    @property
    def batch(self) -> Batch:
        """Its examples."""
        ...


PerBatch = TypeVar("PerBatch", bound=OfBatch)
_PerBatch = TypeVar("_PerBatch", bound=OfBatch, covariant=True)


class Passes(Protocol[_PerBatch]):
    """What there are passes over: an `Objective`, or several at once."""

    @property
    def origin(self) -> Sequence[torch.Tensor]:
        """Its parameters."""
        ...

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        ...

    def terms(self) -> Iterator[_PerBatch]:
        """One pass."""
        ...


_SHARE_OF_SPARE = 4


class Graphs(Generic[PerBatch, Graph]):
    """The graphs of all batches of an objective.

    Args:
        objective: whose batches.
        build: makes the graph of a batch; it must not hold on to this object, or nothing is freed in time.
        budget: bytes that may be held; None takes a quarter of what is free.

    Attributes:
        num_kept: how many graphs are held.
    """

    def __init__(
        self, objective: Passes[PerBatch], build: Callable[[PerBatch], Graph], budget: int | None = None
    ) -> None:
        self._objective = objective
        self._build = build
        self._budget = budget
        self._left = 0.0
        self._bytes_per_size: float | None = None
        self._kept: dict[int, tuple[Any, Graph]] = {}
        self._first_pass = True
        self._complete = False

    @property
    def num_kept(self) -> int:
        """How many graphs are held."""
        return len(self._kept)

    def map(self, function: Callable[[Graph], Found]) -> Iterator[tuple[Any, Found]]:
        """For each batch, in order, its share of the objective and what the function makes of its graph."""
        if self._complete:
            for share, graph in self._kept.values():
                yield share, function(graph)
            return
        num_batches = 0
        for place, term in enumerate(self._objective.terms()):
            num_batches += 1
            if place in self._kept:
                share, graph = self._kept[place]
            else:
                share, graph = term.share, self._graph(place, term)
            found = function(graph)
            del graph  # before the next is built: two at once would double the peak
            yield share, found
        self._first_pass = False
        self._complete = num_batches == len(self._kept)

    def clear(self) -> None:
        """Frees what is held; the next pass starts anew."""
        self._kept.clear()
        self._bytes_per_size = None
        self._first_pass, self._complete = True, False

    def _graph(self, place: int, term: PerBatch) -> Graph:
        keep = self._first_pass and self._fits(term)
        graph = self._build(term)
        if keep:
            self._kept[place] = (term.share, graph)
        return graph

    def _fits(self, term: PerBatch) -> bool:
        if self._bytes_per_size is None:
            self._left = self._budget if self._budget is not None else self._spare()
            if self._left > 0:
                found = graph_bytes(lambda: self._build(term), self._objective.origin)
                self._bytes_per_size = found / _size(term)
        need = (self._bytes_per_size or 0.0) * _size(term)
        if self._left <= 0 or need > self._left:
            return False
        self._left -= need
        return True

    def _spare(self) -> int:
        return spare_bytes(torch.device(self._objective.device)) // _SHARE_OF_SPARE


def _size(term: OfBatch) -> int:
    """What a batch's graph grows with: its numbers, or its objects where it has none."""
    return max(1, sum(leaf.numel() for leaf in tree.tensors(term.batch.x)) or len(term.batch))
