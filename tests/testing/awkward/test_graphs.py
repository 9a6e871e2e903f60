"""Inputs that are no tensors are learned from, stored, resumed and measured like any others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vallis.core import tree
from vallis.core.objective import Objective
from vallis.core.own import coordinates
from vallis.core.rng import Rng
from vallis.core.types import Job
from vallis.run.train import train
from vallis.testing.awkward.graphs import CyclesAndPaths, Graph, GraphNet, ring
from vallis.testing.oracles import dense_gradient, dense_loss, dense_vector
from vallis.testing.toys.solutions import start
from vallis.training.gradient_descent import GradientDescent

TRAINING = GradientDescent(optimizer="Adam", learning_rate=0.03, batch_size=10, max_steps=200)


def test_a_ring_closed_and_cut() -> None:
    cycle, path = ring(5, True), ring(5, False)
    degrees = [torch.bincount(graph.edges[0], minlength=5).tolist() for graph in (cycle, path)]
    assert degrees == [[2, 2, 2, 2, 2], [1, 2, 2, 2, 1]]


def test_a_net_on_graphs_learns_by_gradient_descent() -> None:
    training = replace(TRAINING, stop_train_accuracy=1.0)
    job = Job(problem=CyclesAndPaths(), model=GraphNet(), training=training)
    (solution,) = train(job)
    with torch.no_grad():
        found = [
            (torch.func.functional_call(solution.net.module, dict(solution.params), (batch.x,)).argmax(1) == batch.y)
            for batch in solution.task.splits["test"]
        ]
    assert torch.cat(found).double().mean() == 1.0
    assert solution.step < 200


def test_the_loss_over_a_list_of_graphs_is_measured() -> None:
    solution = start(CyclesAndPaths(), GraphNet(), Rng(0))
    at = dense_vector(solution)
    assert Objective(solution).value() == pytest.approx(float(dense_loss(solution, at)), rel=1e-5)
    assert Objective(solution, "test").value() != Objective(solution).value()
    exact = Objective(solution, dtype=torch.float64).gradient()
    assert torch.allclose(exact, dense_gradient(solution), atol=1e-12)


def test_it_resumes_bit_for_bit() -> None:
    tasks = CyclesAndPaths().build(Rng(0))
    net = GraphNet().build(tasks, Rng(0))
    state = TRAINING.init(net, *coordinates(net.module), tasks, Rng(1))
    for _ in range(7):
        TRAINING.step(state)
    again = TRAINING.unpack(TRAINING.pack(state), net, tasks, Rng(1))
    for _ in range(7):
        one, other = TRAINING.step(state), TRAINING.step(again)
    assert one.loss == other.loss
    assert one.losses is not None
    assert one.losses.shape == (10,)


def test_another_graph_is_other_data() -> None:
    prints = [CyclesAndPaths().build(Rng(seed))[0].splits["train"].fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    assert isinstance(tree.to([ring(3, True)], torch.device("cpu"))[0], Graph)
