"""Kept graphs give the bits of rebuilt ones, stay within their budget, and are freed when they are to be."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch

from tests.numerics.solutions import held, mlp, random
from vallis.core.data import Stream
from vallis.core.errors import DataChanged
from vallis.core.objective import Objective, Term
from vallis.core.types import Solution, Task
from vallis.numerics.curvature import GaussNewton, GaussNewtonGraph, Hessian, HessianGraph
from vallis.numerics.graphs import Graphs
from vallis.numerics.memory import graph_bytes


class Counting:
    """Builds a graph of a known size, and counts how often."""

    def __init__(self) -> None:
        self.num_built = 0

    def __call__(self, term: Term) -> torch.Tensor:
        self.num_built += 1
        point = [value.requires_grad_() for value in term.objective.origin]
        return term.loss(point)


def one_graph(solution: Solution) -> int:
    term = next(iter(Objective(solution).terms()))
    return graph_bytes(lambda: Counting()(term), Objective(solution).origin)


def test_what_fits_is_kept_and_the_rest_is_rebuilt() -> None:
    solution = mlp(batch_size=5)  # batches of 5, 5, 5 and 2
    build = Counting()
    graphs = Graphs(Objective(solution), build, budget=int(2.5 * one_graph(solution)))
    for _ in range(3):
        assert [share for share, _ in graphs.map(torch.Tensor.item)] == pytest.approx([5 / 17, 5 / 17, 5 / 17, 2 / 17])
    # Two batches of five and the one of two; the third of five is built at each pass, and one more to measure it.
    assert graphs.num_kept == 3
    assert build.num_built == 1 + 3 + 3


def test_a_graph_is_freed_before_the_next_is_built() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def build(term: Term) -> torch.Tensor:
        assert all(graph() is None for graph in alive)
        graph = Counting()(term)
        alive.append(weakref.ref(graph))
        return graph

    assert len(list(Graphs(Objective(mlp()), build, budget=0).map(torch.Tensor.item))) == 4
    assert len(alive) == 4


def test_once_all_is_kept_the_data_are_not_read_any_more() -> None:
    num_passes = 0

    def read() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        nonlocal num_passes
        num_passes += 1
        yield random(6, 2), torch.arange(6) % 3

    solution = held(torch.nn.Linear(2, 3), random(6, 2), torch.arange(6) % 3)
    task = Task(name="stream", splits={"train": Stream(read)}, loss=solution.task.loss)
    hessian = Hessian(Objective(Solution(net=solution.net, params=solution.params, buffers={}, tasks=(task,))))
    hessian @ torch.ones(9)
    before = num_passes
    hessian @ torch.ones(9)
    assert num_passes == before


def test_without_a_budget_all_of_a_small_problem_is_kept() -> None:
    build = Counting()
    graphs = Graphs(Objective(mlp()), build)
    for _ in range(3):
        list(graphs.map(torch.Tensor.item))
    assert (graphs.num_kept, build.num_built) == (4, 1 + 4)


def test_with_no_budget_nothing_is_kept_and_nothing_is_measured() -> None:
    build = Counting()
    graphs = Graphs(Objective(mlp()), build, budget=0)
    for _ in range(3):
        list(graphs.map(torch.Tensor.item))
    assert (graphs.num_kept, build.num_built) == (0, 12)


def test_a_pass_that_was_broken_off_does_no_harm() -> None:
    graphs = Graphs(Objective(mlp()), Counting())
    next(graphs.map(torch.Tensor.item))
    assert [share for share, _ in graphs.map(torch.Tensor.item)] == [
        share for share, _ in graphs.map(torch.Tensor.item)
    ]
    assert graphs.num_kept == 4


def test_clearing_starts_anew() -> None:
    build = Counting()
    graphs = Graphs(Objective(mlp()), build)
    before = [value for _, value in graphs.map(torch.Tensor.item)]
    graphs.clear()
    assert graphs.num_kept == 0
    assert [value for _, value in graphs.map(torch.Tensor.item)] == before
    assert build.num_built == 10


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
@pytest.mark.parametrize("batch_size", [1, 5, 17])
def test_kept_and_rebuilt_products_are_the_same_bits(kind: type[Hessian], batch_size: int) -> None:
    objective = Objective(mlp(batch_size=batch_size))
    kept, rebuilt = kind(objective), kind(objective, budget=0)
    vector = random(objective.num_parameters, seed=9)
    for _ in range(2):  # the second time the kept one does not look at the data
        assert torch.equal(kept @ vector, rebuilt @ vector)
    assert (kept.num_kept, rebuilt.num_kept) == (-(-17 // batch_size), 0)


def leaf_of(graph: HessianGraph | GaussNewtonGraph) -> torch.Tensor:
    return (graph.leaves if isinstance(graph, HessianGraph) else graph.network.leaves)[0]


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_graphs_are_freed_with_their_operator_and_not_by_the_garbage_collector(kind: type[Hessian]) -> None:
    objective = Objective(mlp())
    gc.disable()
    try:
        for free in ("clear", "del"):
            operator = kind(objective)
            operator @ torch.ones(objective.num_parameters)
            leaves = [weakref.ref(leaf_of(graph)) for _, graph in operator._graphs._kept.values()]
            assert all(leaf() is not None for leaf in leaves)
            if free == "clear":
                operator.clear()
            else:
                del operator
            assert all(leaf() is None for leaf in leaves)
    finally:
        gc.enable()


def test_data_that_change_between_two_passes_are_refused() -> None:
    passes = iter(range(100))

    def read() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        x, y = random(6, 2, seed=next(passes) // 2), torch.arange(6) % 3
        yield from zip(x.split(2), y.split(2), strict=True)

    module = torch.nn.Linear(2, 3)
    solution = held(module, random(6, 2), torch.arange(6) % 3)
    task = Task(name="changing", splits={"train": Stream(read)}, loss=solution.task.loss)
    changing = Solution(net=solution.net, params=solution.params, buffers={}, tasks=(task,))
    with pytest.raises(DataChanged, match="two passes"):
        hessian = Hessian(Objective(changing), budget=0)
        for _ in range(3):
            hessian @ torch.ones(9)
