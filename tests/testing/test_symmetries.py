from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vallis.core.own import solution_of
from vallis.core.protocols import Model, Problem
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.testing.oracles import dense_vector
from vallis.testing.symmetries import SYMMETRIES, layer_rescaling, unit_permutation
from vallis.testing.toys.models import TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs
from vallis.testing.toys.solutions import start, trained

RELU = TinyMlp(activation="relu", double=True)
PLAIN = TinyConvnet(normalised=False, dropout=0.0, double=True)


def outputs(solution: Solution) -> torch.Tensor:
    (batch,) = solution.task.splits["train"]
    found: torch.Tensor = torch.func.functional_call(solution.net.module, dict(solution.params), (batch.x,))
    return found.detach()


@pytest.mark.parametrize(
    ("name", "problem", "model"),
    [
        ("layer_rescaling", Blobs(double=True), RELU),
        ("unit_permutation", Blobs(double=True), RELU),
        ("unit_permutation", Blobs(double=True), TinyMlp(widths=(5, 4, 3), double=True)),
    ],
)
def test_the_function_stays_and_the_weights_do_not(name: str, problem: Problem, model: Model) -> None:
    solution = trained(problem, model, Rng(0))
    other = SYMMETRIES[name](solution, Rng(1))
    assert other is not None
    assert torch.allclose(outputs(other), outputs(solution), atol=1e-12)
    for parameter, value in solution.params.items():
        if parameter != list(solution.params)[-1]:
            assert not torch.allclose(other.params[parameter], value), parameter
    assert other.tasks is solution.tasks


def test_other_nets_have_none_that_is_known() -> None:
    tanh = start(Blobs(double=True), TinyMlp(double=True), Rng(0))
    normalised = start(Bars(), TinyConvnet(), Rng(0))
    assert layer_rescaling(tanh, Rng(0)) is None
    assert layer_rescaling(normalised, Rng(0)) is None
    assert unit_permutation(normalised, Rng(0)) is None
    assert unit_permutation(start(Bars(double=True), PLAIN, Rng(0)), Rng(0)) is None


def test_rescaling_a_tanh_net_would_change_it() -> None:
    """The condition on the traits is no empty one."""
    solution = trained(Blobs(double=True), TinyMlp(double=True), Rng(0))
    relu = start(Blobs(double=True), RELU, Rng(0))
    disguised = Solution(net=relu.net, params=solution.params, buffers={}, tasks=solution.tasks)
    changed = layer_rescaling(disguised, Rng(1))
    assert changed is not None
    back = Solution(net=solution.net, params=changed.params, buffers={}, tasks=solution.tasks)
    assert not torch.allclose(outputs(back), outputs(solution), atol=1e-3)
    assert not torch.allclose(dense_vector(back), dense_vector(solution))


def made(module: nn.Module) -> Solution:
    data = torch.linspace(-1, 1, 12).reshape(6, 2)
    return solution_of(module, nn.CrossEntropyLoss(), train=(data, torch.arange(6) % 2))


def test_one_layer_has_nothing_to_rescale_or_permute() -> None:
    alone = made(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    assert all(symmetry(alone, Rng(0)) is None for symmetry in SYMMETRIES.values())


def test_frozen_weights_cannot_divide_out_what_others_multiply() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    assert all(symmetry(made(module), Rng(0)) is not None for symmetry in SYMMETRIES.values())
    module[0].weight.requires_grad_(False)
    assert all(symmetry(made(module), Rng(0)) is None for symmetry in SYMMETRIES.values())


def test_a_layer_that_is_used_twice_is_left_alone() -> None:
    again = nn.Linear(3, 3)
    twice = made(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), again, nn.ReLU(), again, nn.ReLU(), nn.Linear(3, 2)))
    tied = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 2))
    tied[4].weight = tied[2].weight
    for solution in (twice, made(tied)):
        assert {"homogeneous", "feedforward"} <= solution.net.traits
        assert all(symmetry(solution, Rng(0)) is None for symmetry in SYMMETRIES.values())


@pytest.mark.parametrize(
    "layers",
    [
        # Every unit stands at five positions, side by side in what the second layer is given.
        lambda: (nn.Linear(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2)),
        # Neighbouring units are pooled, so that another order pools others.
        lambda: (nn.Linear(3, 4), nn.ReLU(), nn.AvgPool2d((5, 2)), nn.Flatten(), nn.Linear(2, 2)),
    ],
)
def test_units_that_have_no_order_of_their_own_are_left_alone(layers: Any) -> None:
    x, y = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 3)
    solution = solution_of(nn.Sequential(*layers()), nn.CrossEntropyLoss(), train=(x, y))
    assert "feedforward" in solution.net.traits
    assert unit_permutation(solution, Rng(0)) is None
