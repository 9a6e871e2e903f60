"""Graphs as inputs: a batch is a list of objects of different sizes, and no tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from vallis.core.data import Arrays
from vallis.core.errors import ModelError
from vallis.core.functional import preserving_global_state
from vallis.core.losses import CrossEntropy
from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.testing.toys.models import as_net


@dataclass(frozen=True)
class Graph:
    """Nodes 0 to ``num_nodes - 1`` and undirected edges ``(2, E)`` int64, each edge in both directions."""

    num_nodes: int
    edges: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class CyclesAndPaths:
    """Is the graph a closed cycle (1) or an open path (0)? The sizes are mixed and tell nothing."""

    version: ClassVar[int] = 1

    num_train: int = 40
    num_test: int = 20
    smallest: int = 3
    largest: int = 9

    def build(self, rng: Rng) -> tuple[Task, ...]:
        generator = rng.child("graphs").torch()
        splits, first = {}, 0
        for name, size in (("train", self.num_train), ("test", self.num_test)):
            nodes = torch.randint(self.smallest, self.largest + 1, (size,), generator=generator).tolist()
            closed = torch.randint(2, (size,), generator=generator)
            x = [ring(n, bool(c)) for n, c in zip(nodes, closed, strict=True)]
            splits[name] = Arrays(x=x, y=closed, index=torch.arange(first, first + size), batch_size=16)
            first += size
        return (Task(name="cycles_and_paths", splits=splits, loss=CrossEntropy()),)


def ring(num_nodes: int, closed: bool) -> Graph:
    """A cycle through the nodes in their order, or the path that is left when one edge is cut."""
    start = torch.arange(num_nodes if closed else num_nodes - 1)
    there = torch.stack([start, (start + 1) % num_nodes])
    return Graph(num_nodes, torch.cat([there, there.flip(0)], dim=1))


class SumPooling(nn.Module):
    """One round of messages between neighbours, then the sum over the nodes of each graph."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = nn.Linear(1, width)
        self.answer = nn.Linear(width, 2)

    def forward(self, graphs: list[Graph]) -> torch.Tensor:
        """B graphs to logits ``(B, 2)``."""
        sizes = torch.tensor([graph.num_nodes for graph in graphs], device=self.message.weight.device)
        starts = sizes.cumsum(0) - sizes
        edges = torch.cat([graph.edges + start for graph, start in zip(graphs, starts, strict=True)], dim=1)
        own = torch.ones(int(sizes.sum()), 1, dtype=self.message.weight.dtype, device=self.message.weight.device)
        heard = torch.zeros_like(own).index_add(0, edges[0], own[edges[1]])
        of = torch.repeat_interleave(torch.arange(len(graphs), device=own.device), sizes)
        hidden = torch.relu(self.message(heard - 1.5 * own))
        summed = torch.zeros(len(graphs), hidden.shape[1], dtype=own.dtype, device=own.device).index_add(0, of, hidden)
        logits: torch.Tensor = self.answer(summed)
        return logits


@dataclass(frozen=True, kw_only=True)
class GraphNet:
    """The smallest net on graphs.

    Attributes:
        width: how many numbers a node says.
    """

    version: ClassVar[int] = 1

    width: int = 8

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        graphs = next(iter(tasks[0].splits["train"])).x
        if not isinstance(graphs, list) or not all(isinstance(graph, Graph) for graph in graphs):
            raise ModelError("a list of graphs was required, other inputs came: use another model")
        with preserving_global_state():
            torch.default_generator.manual_seed(rng.child("weights").seed)
            return as_net(SumPooling(self.width))
