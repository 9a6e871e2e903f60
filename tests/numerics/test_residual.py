"""The residual against dense float64 matrices: by itself, and as what the Gauss-Newton matrix lacks of the Hessian."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random
from vallis.core import tree
from vallis.core.errors import LossError, UnknownPart
from vallis.core.functional import arguments, twice_differentiable
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.types import Solution
from vallis.numerics.curvature import GaussNewton, Hessian, positions
from vallis.numerics.operators import Restricted
from vallis.numerics.residual import Residual
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian


def dense_residual(solution: Solution) -> torch.Tensor:
    """``sum_b w_b d²/dθ² (g_b · z_b(θ)) / sum_b w_b`` with the slopes g_b put in as numbers, in float64."""
    shapes = {name: value.shape for name, value in solution.params.items()}
    flat = torch.cat([value.double().reshape(-1) for value in solution.params.values()])
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in solution.buffers.items()}
    loss, total, weight = solution.task.loss, torch.zeros(len(flat), len(flat), dtype=torch.float64), 0.0
    for batch in solution.task.splits["train"]:
        x, y = tree.to(batch.x, dtype=torch.float64), tree.to(batch.y, dtype=torch.float64)
        counted = loss.weight(y)
        if counted == 0:
            continue

        def scores(vector: torch.Tensor, x: Any = x) -> torch.Tensor:
            parts = vector.split([shape.numel() for shape in shapes.values()])
            point = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            args, kwargs = arguments(solution.net.module, x)
            with twice_differentiable(solution.net.module):
                returned = torch.func.functional_call(solution.net.module, {**point, **buffers}, args, kwargs)
            found = loss.scores(returned)
            assert found is not None
            return found

        at = scores(flat).detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss.mean(at, y), at)
        total += counted * torch.autograd.functional.hessian(lambda v, s=scores, g=slope: (s(v) * g).sum(), flat)
        weight += counted
    return total / weight


@pytest.mark.parametrize("name", AWKWARD)
def test_the_residual_is_the_dense_one(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    found = Residual(Objective(solution, dtype=torch.float64)).dense()
    torch.testing.assert_close(found, dense_residual(solution), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found, found.T, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", AWKWARD)
def test_the_hessian_is_gauss_newton_and_residual(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    objective = Objective(solution, dtype=torch.float64)
    truth = dense_hessian(solution)
    found = (GaussNewton(objective) + Residual(objective)).dense()
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close((Hessian(objective) - GaussNewton(objective)).dense(), Residual(objective).dense())


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_a_network_that_is_linear_in_its_weights_has_none(loss: str) -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU()))
    squared = SquaredError() if loss == "squared_error" else None
    solution = held(module, random(9, 2), random(9, 3) if squared else classes(9), loss=squared)
    assert torch.equal(Residual(Objective(solution)).dense(), torch.zeros(9, 9))
    assert float(GaussNewton(Objective(solution)).dense().abs().max()) > 0.01


def test_two_piecewise_linear_layers_have_one_between_layers_only() -> None:
    solution = held(built(lambda: nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))), random(9, 2), classes(9))
    objective = Objective(solution, dtype=torch.float64)
    found = Residual(objective).dense()
    first, second = positions(objective, ["0"]), positions(objective, ["2"])
    assert torch.equal(found[first][:, first], torch.zeros(12, 12, dtype=torch.float64))
    assert torch.equal(found[second][:, second], torch.zeros(15, 15, dtype=torch.float64))
    assert float(found[first][:, second].abs().max()) > 1e-3


def test_a_block_is_the_restriction() -> None:
    objective = Objective(mlp(), dtype=torch.float64)
    for only in (["0"], ["2.weight"], ["0.bias", "4"]):
        block, restricted = Residual(objective, only=only), Restricted(Residual(objective), positions(objective, only))
        torch.testing.assert_close(block.dense(), restricted.dense(), rtol=1e-12, atol=1e-13)
    with pytest.raises(UnknownPart):
        Residual(objective, only=["5"])


def test_kept_and_rebuilt_graphs_give_the_same_bits() -> None:
    objective = Objective(mlp())
    kept, rebuilt = Residual(objective), Residual(objective, budget=0)
    vector = random(61)
    assert torch.equal(kept @ vector, rebuilt @ vector)
    assert torch.equal(kept @ vector, rebuilt @ vector)
    assert (kept.num_kept, rebuilt.num_kept) == (4, 0)


def test_a_loss_that_is_flat_in_the_outputs_has_none() -> None:
    constant = OwnLoss(function=lambda outputs, y: y.mean())
    solution = held(built(lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh())), random(9, 2), random(9, 2), loss=constant)
    assert torch.equal(Residual(Objective(solution)).dense(), torch.zeros(6, 6))


def test_a_loss_without_scores_has_no_residual() -> None:
    class Odd(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            return super().forward(x), super().forward(-x)

    loss = OwnLoss(function=lambda outputs, y: ((outputs[0] * outputs[1] - y) ** 2).mean())
    solution = held(built(lambda: Odd(2, 1)), random(9, 2), random(9, 1), loss=loss)
    with pytest.raises(LossError, match=r"residual.*outputs="):
        Residual(Objective(solution)) @ torch.ones(3)
