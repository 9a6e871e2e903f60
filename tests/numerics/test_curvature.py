"""Hessian and Gauss-Newton against dense float64 matrices, on everything awkward."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import nn

from tests.numerics.solutions import (
    AWKWARD,
    NUM_EXAMPLES,
    Routed,
    batch_norm,
    built,
    classes,
    held,
    mlp,
    one_example,
    random,
    tied,
)
from vallis.core import tree
from vallis.core.errors import LossError, SettingsError, UnknownPart
from vallis.core.functional import arguments, twice_differentiable
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.types import Solution
from vallis.numerics.curvature import GaussNewton, Hessian, positions, select
from vallis.numerics.fisher import EmpiricalFisher, Fisher
from vallis.numerics.operators import Restricted
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian


def dense_gauss_newton(solution: Solution) -> torch.Tensor:
    """``sum_b w_b J_b' H_b J_b / sum_b w_b`` from explicit Jacobians and Hessians of the loss by scores, in float64."""
    solution, loss = in_eval_mode(solution), solution.task.loss
    shapes = {name: value.shape for name, value in solution.params.items()}
    flat = torch.cat([value.double().reshape(-1) for value in solution.params.values()])
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in solution.buffers.items()}
    total, weight = torch.zeros(len(flat), len(flat), dtype=torch.float64), 0.0
    for batch in solution.task.splits["train"]:
        x, y = tree.to(batch.x, dtype=torch.float64), tree.to(batch.y, dtype=torch.float64)
        counted = loss.weight(y)
        if counted == 0:
            continue

        def outputs(vector: torch.Tensor, x: Any = x) -> torch.Tensor:
            parts = vector.split([shape.numel() for shape in shapes.values()])
            point = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            args, kwargs = arguments(solution.net.module, x)
            with twice_differentiable(solution.net.module):
                returned = torch.func.functional_call(solution.net.module, {**point, **buffers}, args, kwargs)
            scores = loss.scores(returned)
            assert scores is not None
            return scores.reshape(-1)

        like = loss.scores(built_outputs(solution, buffers, x))
        assert like is not None
        jacobian = torch.autograd.functional.jacobian(outputs, flat)
        at = outputs(flat).detach()
        bend = torch.autograd.functional.hessian(lambda z, y=y, like=like: loss.mean(z.view(like.shape), y), at)
        total += counted * jacobian.T @ bend @ jacobian
        weight += counted
    return total / weight


def built_outputs(solution: Solution, buffers: dict[str, torch.Tensor], x: Any) -> Any:
    args, kwargs = arguments(solution.net.module, x)
    params = {name: value.double() for name, value in solution.params.items()}
    with twice_differentiable(solution.net.module), torch.no_grad():
        return torch.func.functional_call(solution.net.module, {**params, **buffers}, args, kwargs)


@pytest.mark.parametrize("name", AWKWARD)
def test_the_hessian_is_the_dense_one(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    hessian = Hessian(Objective(solution, dtype=torch.float64))
    truth = dense_hessian(solution)
    found = hessian.dense()
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found, found.T, rtol=1e-9, atol=1e-10)
    assert float(truth.abs().max()) > 1e-3


@pytest.mark.parametrize("name", AWKWARD)
def test_gauss_newton_is_the_dense_one(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    truth = dense_gauss_newton(solution)
    found = GaussNewton(Objective(solution, dtype=torch.float64)).dense()
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-10)
    assert float(torch.linalg.eigvalsh(found).min()) > -1e-10
    assert float(truth.abs().max()) > 1e-3


@pytest.mark.parametrize("name", sorted(set(AWKWARD) - {"one_parameter"}))
def test_products_in_the_models_own_precision_are_close(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    truth = dense_hessian(solution)
    vector = random(len(truth), seed=5)
    found = Hessian(Objective(solution)) @ vector
    assert found.dtype == torch.float32
    assert float((found - truth @ vector.double()).norm()) < 1e-4 * float(truth.norm() * vector.norm())


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_no_batching_changes_the_matrix(kind: type[Hessian]) -> None:
    whole = kind(Objective(mlp(17), dtype=torch.float64)).dense()
    for batch_size in (1, 4, 16):
        torch.testing.assert_close(
            kind(Objective(mlp(batch_size), dtype=torch.float64)).dense(), whole, rtol=1e-12, atol=1e-13
        )


def test_a_ragged_batch_is_not_averaged_as_a_whole_one() -> None:
    """The peers' mistake: a mean over batch means is far from the mean over examples."""
    solution = mlp(16)  # batches of 16 and 1
    truth = dense_hessian(solution)
    averaged = torch.zeros_like(truth)
    for term in Objective(solution).terms():
        batch = held(solution.net.module, term.batch.x, term.batch.y)
        averaged += dense_hessian(batch) / 2
    assert float((averaged - truth).abs().max()) > 0.1 * float(truth.abs().max())
    torch.testing.assert_close(Hessian(Objective(solution, dtype=torch.float64)).dense(), truth, rtol=1e-9, atol=1e-10)


def test_hessian_and_gauss_newton_agree_where_the_network_is_linear_in_its_weights() -> None:
    solution = held(built(lambda: nn.Linear(2, 3)), random(9, 2), classes(9))
    hessian, gauss_newton = (kind(Objective(solution, dtype=torch.float64)).dense() for kind in (Hessian, GaussNewton))
    torch.testing.assert_close(hessian, gauss_newton, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
def test_a_block_is_the_restriction(kind: type[Hessian]) -> None:
    objective = Objective(mlp(), dtype=torch.float64)
    whole = kind(objective)
    for only in (["0"], ["2.weight"], ["0.bias", "4"]):
        block = kind(objective, only=only)
        restricted = Restricted(whole, positions(objective, only))
        assert block.shape == restricted.shape
        torch.testing.assert_close(block.dense(), restricted.dense(), rtol=1e-12, atol=1e-13)


def test_names_choose_parameters_and_layers() -> None:
    part = nn.Linear(2, 2)
    part.part = nn.Linear(2, 2)
    objective = Objective(
        held(built(lambda: nn.ModuleDict({"1": part, "10": nn.Linear(2, 2)})), random(2, 2), classes(2))
    )
    assert objective.names == ("1.weight", "1.bias", "1.part.weight", "1.part.bias", "10.weight", "10.bias")
    assert select(objective, []) == (True, True, True, True, True, True)
    assert select(objective, ["1"]) == (True, True, True, True, False, False)
    assert select(objective, ["10", "1.bias"]) == (False, True, False, False, True, True)
    with pytest.raises(UnknownPart, match=r"no layer or parameter is named '1\.wieght'; did you mean 1\.weight"):
        select(objective, ["1.wieght"])
    with pytest.raises(UnknownPart):
        Hessian(Objective(mlp()), only=["5"])


@pytest.mark.parametrize(("only", "tied_to"), [("back.weight", "there.weight"), ("out", "there.weight")])
def test_a_tied_name_is_told_where_it_lives(only: str, tied_to: str) -> None:
    module = AWKWARD["tied"]().net.module
    module.out = nn.Linear(3, 3, bias=False)
    module.out.weight = module.there.weight
    objective = Objective(held(module, random(NUM_EXAMPLES, 3), classes(NUM_EXAMPLES)))
    with pytest.raises(UnknownPart, match=f"has '{only}'; {only}[.weight]* is tied and lives as '{tied_to}'"):
        Hessian(objective, only=only)
    with pytest.raises(UnknownPart, match="no layer or parameter is named 'nowhere'"):
        Hessian(objective, only="nowhere")


def test_a_layer_whose_weight_lives_elsewhere_is_no_block_of_its_own() -> None:
    """The bias alone, which is what is left of it, is not what was meant."""
    objective = Objective(tied())
    with pytest.raises(UnknownPart, match=r"'back' are its own; back\.weight is tied and lives as 'there\.weight'"):
        Hessian(objective, only="back")
    with pytest.raises(UnknownPart, match=r"or only what is its own, such as 'back\.bias'"):
        positions(objective, ["there.bias", "back"])
    assert select(objective, ["back", "there"]) == (True, True, True)
    assert select(objective, ["back", "there.weight"]) == (True, False, True)
    assert select(objective, "back.bias") == (False, False, True)
    assert select(objective, "there") == (True, True, False)


@pytest.mark.parametrize("only", [[1], 1, [b"2"], [["2"]], None])
def test_names_are_strings(only: Any) -> None:
    with pytest.raises(SettingsError, match="names of layers or parameters were required"):
        Hessian(Objective(mlp()), only=only)


def test_a_string_is_one_name() -> None:
    """Letter by letter it would be two layers of an `nn.Sequential`."""
    layers = {name: nn.Linear(1, 1, bias=False) for name in ("1", "2", "12")}
    three = Objective(held(built(lambda: nn.ModuleDict(layers)), random(2, 1), classes(2)))
    assert select(three, "12") == (False, False, True)
    objective = Objective(mlp(), dtype=torch.float64)
    assert torch.equal(positions(objective, "2"), positions(objective, ["2"]))
    for name in ("02", "24", ""):
        for refusing in (select, positions):
            with pytest.raises(UnknownPart, match=f"is named '{name}'"):
                refusing(objective, name)
    for kind in (Hessian, GaussNewton, Fisher, EmpiricalFisher):
        assert torch.equal(kind(objective, only="2").dense(), kind(objective, only=["2"]).dense())
        with pytest.raises(UnknownPart, match="is named '02'"):
            kind(objective, only="02")


def test_parameters_that_nothing_depends_on_have_zero_rows() -> None:
    solution = held(built(Routed), random(9, 2), classes(9))
    objective = Objective(solution, dtype=torch.float64)
    idle = positions(objective, ["idle"])
    for kind in (Hessian, GaussNewton):
        matrix = kind(objective).dense()
        assert torch.equal(matrix[idle], torch.zeros_like(matrix[idle]))
        assert torch.equal(kind(objective, only=["idle"]).dense(), torch.zeros(9, 9, dtype=torch.float64))


def test_a_loss_that_is_linear_or_constant_in_the_weights_has_no_curvature() -> None:
    linear = OwnLoss(function=lambda outputs, y: (outputs * y).mean())
    solution = held(built(lambda: nn.Linear(2, 1)), random(9, 2), random(9, 1), loss=linear)
    constant = OwnLoss(function=lambda outputs, y: y.mean())
    flat = replace(solution, tasks=(replace(solution.task, loss=constant),))
    for each in (solution, flat):
        for kind in (Hessian, GaussNewton):
            assert torch.equal(kind(Objective(each)).dense(), torch.zeros(3, 3))


def test_a_tied_weight_counts_once() -> None:
    solution = tied()
    assert Hessian(Objective(solution)).size == 9 + 3 + 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_taken_at_their_word(dtype: torch.dtype) -> None:
    solution = mlp()
    module = solution.net.module.to(dtype)
    data = solution.task.splits["train"]
    half = held(module, data.x.to(dtype), data.y)  # type: ignore[attr-defined]
    found = Hessian(Objective(half, dtype=torch.float64)).dense()
    torch.testing.assert_close(found, dense_hessian(half), rtol=1e-9, atol=1e-10)
    assert Hessian(Objective(half)).dtype == torch.float32


def test_products_work_in_every_gradient_mode_and_leave_the_solution_alone() -> None:
    solution = batch_norm()
    before = {name: value.clone() for name, value in {**solution.params, **solution.buffers}.items()}
    vector = torch.ones(solution.num_parameters)
    plain = Hessian(Objective(solution)) @ vector
    with torch.no_grad():
        assert torch.equal(Hessian(Objective(solution)) @ vector, plain)
    with torch.inference_mode():
        assert torch.equal(Hessian(Objective(solution)) @ vector, plain)
        assert torch.equal(GaussNewton(Objective(solution)).matvec(vector), GaussNewton(Objective(solution)) @ vector)
    after = {**solution.params, **solution.buffers}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(value.grad is None and not value.requires_grad for value in solution.params.values())
    assert all(value.grad is None for value in solution.net.module.parameters())


def test_a_loss_without_scores_has_no_gauss_newton() -> None:
    class Odd(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            return super().forward(x), super().forward(-x)

    loss = OwnLoss(function=lambda outputs, y: ((outputs[0] * outputs[1] - y) ** 2).mean())
    solution = held(built(lambda: Odd(2, 1)), random(9, 2), random(9, 1), loss=loss)
    assert float(Hessian(Objective(solution)).dense().abs().max()) > 0
    with pytest.raises(LossError, match=r"Gauss-Newton.*outputs="):
        GaussNewton(Objective(solution)) @ torch.ones(3)


def test_one_example_and_one_parameter() -> None:
    assert Hessian(Objective(one_example())).dense().shape == (61, 61)
    x = random(4, 1).double()
    module = nn.Linear(1, 1, bias=False).double()
    solution = held(module, x, 3 * x, loss=SquaredError())
    expected = (2 * x**2).mean().reshape(1, 1)
    torch.testing.assert_close(Hessian(Objective(solution)).dense(), expected)


def test_the_plain_door_takes_a_module_in_training() -> None:
    module = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 3)).train()
    x, y = random(NUM_EXAMPLES, 2), classes(NUM_EXAMPLES)
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]
    exact = dense_hessian(held(copy.deepcopy(module), x, y))
    for made in (
        Hessian.of(module, nn.CrossEntropyLoss(), batches, dtype=torch.float64),
        Hessian.of(held(copy.deepcopy(module), x, y), dtype=torch.float64),
    ):
        torch.testing.assert_close(made.dense(), exact, rtol=1e-9, atol=1e-10)
    assert module.training
    assert Hessian.of(module, nn.CrossEntropyLoss(), batches, only=["3"]).size == 15


class HeldStill(nn.Module):
    """A weight that acts twice, once as a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 2), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.last(self.first(x).tanh() + (x @ self.first.weight.detach().T).sin()))


def test_a_weight_that_is_detached_on_one_path_is_a_constant_there() -> None:
    module = built(HeldStill).double()
    x, y = random(12, 3).double(), torch.arange(12) % 3
    weights = list(module.parameters())
    loss = nn.functional.cross_entropy(module(x), y)
    slope = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, weights, create_graph=True)])
    rows = [torch.autograd.grad(entry, weights, retain_graph=True) for entry in slope]
    truth = torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])
    found = Hessian.of(module, nn.CrossEntropyLoss(), (x, y))
    torch.testing.assert_close(found.dense(), truth, rtol=1e-10, atol=1e-12)
