"""The Fisher-Rao norm against a loop over examples, a closed form for ReLU networks, and its invariances."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random
from tests.numerics.test_curvature import dense_gauss_newton
from vallis.core.corrected_losses import ForwardCorrected
from vallis.core.data import Arrays
from vallis.core.errors import LossError
from vallis.core.losses import BinaryCrossEntropy
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.types import Solution
from vallis.numerics.fisher_rao import fisher_rao_norm, model_fisher_rao_norm
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_gradient, dense_vector


def by_a_loop(solution: Solution) -> float:
    """One example a data set, one dense gradient each."""
    data = solution.task.splits["train"]
    weights, total = 0.0, 0.0
    at = dense_vector(solution)
    for place in range(len(data)):
        batch = data.take(torch.tensor([place]))
        counted = solution.task.loss.weight(batch.y)
        if counted == 0:
            continue
        alone = replace(solution.task, splits={"train": Arrays(x=batch.x, y=batch.y, index=batch.index)})
        total += counted * float(dense_gradient(replace(solution, tasks=(alone,))) @ at) ** 2
        weights += counted
    return (total / weights) ** 0.5


# One of two layers is chosen by the whole batch, so the examples are none by themselves.
@pytest.mark.parametrize("name", sorted(set(AWKWARD) - {"unused"}))
def test_it_is_the_mean_square_of_the_examples_slopes(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    found = fisher_rao_norm(Objective(solution, dtype=torch.float64))
    assert found == pytest.approx(by_a_loop(solution), rel=1e-9)
    assert found > 1e-3


@pytest.mark.parametrize("name", AWKWARD)
def test_the_models_own_is_the_quadratic_form_of_gauss_newton(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    at = dense_vector(solution)
    true = float(at @ dense_gauss_newton(solution) @ at) ** 0.5
    assert model_fisher_rao_norm(Objective(solution, dtype=torch.float64)) == pytest.approx(true, rel=1e-9)


def relu(depth: int, double: bool = True) -> Solution:
    """A ReLU network without biases, homogeneous in its weights of this many layers."""
    widths = [3, *[7] * (depth - 1)]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.ReLU()]
    module = built(lambda: nn.Sequential(*layers, nn.Linear(widths[-1], 3, bias=False)))
    x = random(23, 3)
    return held(module.double() if double else module, x.double() if double else x, classes(23))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_closed_form_of_networks_without_biases(depth: int) -> None:
    """Theorem 3.1: ``(L+1)^2 E <dl/df, f>^2`` with L hidden layers."""
    solution = relu(depth)
    (batch,) = solution.task.splits["train"].in_batches_of(23)  # type: ignore[attr-defined]
    outputs = solution.net.module(batch.x).detach()
    slopes = torch.softmax(outputs, 1) - nn.functional.one_hot(batch.y, 3)
    closed = depth**2 * (slopes * outputs).sum(1).square().mean()
    found = fisher_rao_norm(Objective(solution))
    assert found == pytest.approx(float(closed) ** 0.5, rel=1e-12)


def test_rescaling_single_units_changes_neither() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3))).double()
    solution = held(module, random(17, 2).double(), classes(17))
    factors = torch.tensor([5.0, 0.2, 1.0, 3.0, 0.7], dtype=torch.float64)
    params = dict(solution.params)
    params["0.weight"] = params["0.weight"] * factors[:, None]
    params["0.bias"] = params["0.bias"] * factors
    params["2.weight"] = params["2.weight"] / factors
    one, other = (Objective(each) for each in (solution, replace(solution, params=params)))
    for norm in (fisher_rao_norm, model_fisher_rao_norm):
        assert norm(other) == pytest.approx(norm(one), rel=1e-10)


def test_the_two_agree_where_labels_are_drawn_from_the_model() -> None:
    """With many copies of each input and labels in the model's own proportions."""
    module = built(lambda: nn.Linear(2, 1)).double()
    x = torch.tensor([[0.4, -1.0], [1.3, 0.2]], dtype=torch.float64)
    copies = 20_000
    p = torch.sigmoid(module(x)).detach()[:, 0]
    y = torch.stack([(torch.arange(copies) < (share * copies).round()).long() for share in p])
    solution = held(module, x.repeat_interleave(copies, 0), y.reshape(-1), BinaryCrossEntropy(), batch_size=10_000)
    objective = Objective(solution)
    assert fisher_rao_norm(objective) == pytest.approx(model_fisher_rao_norm(objective), rel=1e-3)


def test_no_batching_changes_it() -> None:
    whole = Objective(mlp(17), dtype=torch.float64)
    for batch_size in (1, 4, 16):
        cut = Objective(mlp(batch_size), dtype=torch.float64)
        assert fisher_rao_norm(cut) == pytest.approx(fisher_rao_norm(whole), rel=1e-12)
        assert model_fisher_rao_norm(cut) == pytest.approx(model_fisher_rao_norm(whole), rel=1e-12)


def test_it_works_in_every_gradient_mode_and_leaves_no_gradients() -> None:
    solution = mlp()
    plain = fisher_rao_norm(Objective(solution))
    with torch.no_grad():
        assert fisher_rao_norm(Objective(solution)) == plain
    with torch.inference_mode():
        assert fisher_rao_norm(Objective(solution)) == plain
    assert all(value.grad is None for value in solution.net.module.parameters())


def own(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, y)


def test_a_loss_of_ones_own_that_gives_examples_no_slopes() -> None:
    plain = in_eval_mode(mlp(double=True))
    strange = replace(plain, tasks=(replace(plain.task, loss=OwnLoss(function=own)),))
    assert fisher_rao_norm(Objective(strange)) == pytest.approx(fisher_rao_norm(Objective(plain)), rel=1e-10)


def test_so_with_rows_that_count_differently() -> None:
    """The second number of a target says how much it counts, for one of them nothing."""
    weights = torch.tensor([2.0, 1.0, 0.0, 3.0, 1.0, 0.0, 1.0])

    def mean(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((outputs[:, 0] - y[:, 0]) ** 2 * y[:, 1]).sum() / y[:, 1].sum()

    loss = OwnLoss(function=mean, count=lambda y: y[:, 1].sum())
    targets = torch.stack([random(7, seed=4), weights], dim=1)
    solution = held(built(lambda: nn.Linear(2, 1)), random(7, 2), targets, loss=loss, batch_size=4)
    found = fisher_rao_norm(Objective(solution, dtype=torch.float64))
    assert found == pytest.approx(by_a_loop(solution), rel=1e-10)


def test_a_loss_without_scores_has_none() -> None:
    class Two(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            return super().forward(x), super().forward(-x)

    loss = OwnLoss(function=lambda outputs, y: ((outputs[0] * outputs[1] - y) ** 2).mean())
    solution = held(built(lambda: Two(2, 1)), random(9, 2), random(9, 1), loss=loss)
    with pytest.raises(LossError):
        fisher_rao_norm(Objective(solution))


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_a_loss_that_is_not_convex_has_no_norm_of_the_model_where_the_form_is_negative(scale: float) -> None:
    loss = ForwardCorrected(transition=[[0.6, 0.4], [0.1, 0.9]])
    module = built(lambda: nn.Linear(3, 2)).double()
    with torch.no_grad():
        for value in module.parameters():
            value.mul_(scale)
    solution = held(module, random(30, 3).double(), classes(30) % 2, loss)
    at = dense_vector(solution)
    form = float(at @ dense_gauss_newton(solution) @ at)
    if form > 0:
        assert model_fisher_rao_norm(Objective(solution)) == pytest.approx(form**0.5, rel=1e-9)
        return
    assert scale == 3.0
    with pytest.raises(LossError, match=r"w'Gw >= 0 was required for a norm, -[\d.]+ came"):
        model_fisher_rao_norm(Objective(solution))
