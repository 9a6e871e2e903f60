"""Fisher matrices against the sums over single gradients that define them, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.numerics.per_target import dense_fisher, single_gradients
from tests.numerics.solutions import (
    AWKWARD,
    Routed,
    Tokens,
    binary,
    built,
    classes,
    held,
    mlp,
    random,
    regression,
    tokens,
)
from vallis.core.errors import LossError, SettingsError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss, Picked, adapt
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.curvature import GaussNewton, positions
from vallis.numerics.fisher import EmpiricalFisher, Fisher, SampledFisher
from vallis.numerics.operators import Operator, Restricted
from vallis.numerics.surface import in_eval_mode

Single = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def categorical(z: torch.Tensor, t: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    logs = z.log_softmax(0)
    return -(1 - smoothing) * logs[int(t)] - smoothing * logs.mean()


def one_logit(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return -(t * F.logsigmoid(z) + (1 - t) * F.logsigmoid(-z)).sum()


def squared(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return ((z - t) ** 2).sum()


SINGLE: dict[str, Single] = {
    "tokens": partial(categorical, smoothing=0.1),
    "regression": squared,
    "one_parameter": squared,
    "binary": one_logit,
}


def double(solution: Solution) -> Objective:
    return Objective(in_eval_mode(solution), dtype=torch.float64)


def with_loss(solution: Solution, loss: Loss) -> Solution:
    return replace(solution, tasks=(replace(solution.task, loss=loss),))


def with_targets(solution: Solution, y: torch.Tensor, loss: Loss) -> Solution:
    data = replace(solution.task.splits["train"], y=y)  # type: ignore[type-var]
    return replace(solution, tasks=(replace(solution.task, loss=loss, splits={"train": data}),))


@pytest.mark.parametrize("name", AWKWARD)
def test_the_exact_one_is_the_sum_over_all_targets(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    truth = dense_fisher(solution)
    found = Fisher(double(solution)).dense()
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-10)
    assert float(truth.abs().max()) > 1e-3


@pytest.mark.parametrize("name", AWKWARD)
def test_the_exact_one_is_gauss_newton_without_a_factor(name: str) -> None:
    objective = double(AWKWARD[name]())
    torch.testing.assert_close(Fisher(objective).dense(), GaussNewton(objective).dense(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", AWKWARD)
def test_the_empirical_one_is_the_mean_of_outer_products(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    gradients, _ = single_gradients(solution, SINGLE.get(name, categorical))
    found = EmpiricalFisher(double(solution)).dense()
    torch.testing.assert_close(found, gradients.T @ gradients / len(gradients), rtol=1e-9, atol=1e-10)
    assert float(found.abs().max()) > 1e-3


@pytest.mark.parametrize("name", AWKWARD)
def test_gradients_of_examples_add_up_those_of_their_targets(name: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    gradients, example = single_gradients(solution, SINGLE.get(name, categorical))
    sums = torch.zeros(int(example.max()) + 1, gradients.shape[1], dtype=torch.float64).index_add_(
        0, example, gradients
    )
    found = EmpiricalFisher(double(solution), per="example").dense()
    torch.testing.assert_close(found, sums.T @ sums / len(gradients), rtol=1e-9, atol=1e-10)
    if name in ("tokens", "regression"):
        assert float((found - EmpiricalFisher(double(solution)).dense()).abs().max()) > 1e-3


@pytest.mark.parametrize("make", [mlp, tokens, binary, regression])
def test_drawn_targets_are_unbiased(make: Callable[[], Solution]) -> None:
    """Every entry over 300 seeds, with its own standard error: the largest of all stays below the normal bound."""
    objective = double(make())
    truth, repeats = dense_fisher(make()), 300
    vector = random(len(truth), seed=7).double()
    found = torch.stack([SampledFisher(objective, Rng(seed)) @ vector for seed in range(repeats)])
    error = found.std(0) / math.sqrt(repeats)
    z = ((found.mean(0) - truth @ vector) / error)[error > 1e-12 * truth.norm()]
    assert len(z) >= len(truth) // 2
    assert float(z.abs().max()) < 4.5
    assert 0.3 < float(z.square().mean().sqrt()) < 2.0


def test_the_squared_error_falls_as_one_over_the_draws() -> None:
    """Two means over 150 seeds, whose own standard errors are small enough to tell them apart by a factor of two."""
    objective, truth = double(mlp()), dense_fisher(mlp())
    vector = random(61, seed=7).double()

    def error(num_draws: int, first: int) -> tuple[float, float]:
        seeds = range(first, first + 150)
        found = torch.stack([SampledFisher(objective, Rng(seed), num_draws) @ vector for seed in seeds])
        squares = (found - truth @ vector).square().sum(1) * num_draws
        return float(squares.mean()), float(squares.std()) / math.sqrt(150)

    (one, one_stderr), (many, many_stderr) = error(1, 0), error(16, 150)
    assert abs(one - many) < 4 * math.hypot(one_stderr, many_stderr)
    assert 4 * math.hypot(one_stderr, many_stderr) < one


def test_a_draw_is_an_outer_product_of_slopes() -> None:
    """One example: the matrix is ``g g'`` of one of the C gradients that its class could have."""
    x = random(1, 2)
    solution = held(built(lambda: nn.Linear(2, 3)), x, classes(1))
    possible = []
    for c in range(3):
        gradients, _ = single_gradients(solution, lambda z, t, c=c: -z.log_softmax(0)[c])
        possible.append(gradients.T @ gradients)
    seen = set()
    for seed in range(20):
        found = SampledFisher(double(solution), Rng(seed)).dense()
        matches = [c for c, one in enumerate(possible) if torch.allclose(found, one, rtol=1e-10, atol=1e-12)]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 1


def test_drawn_targets_do_not_depend_on_batches_or_on_memory() -> None:
    whole = SampledFisher(double(mlp(17)), Rng(3), 2)
    for batch_size in (1, 4, 16):
        other = SampledFisher(double(mlp(batch_size)), Rng(3), 2, budget=0)
        torch.testing.assert_close(other.dense(), whole.dense(), rtol=1e-12, atol=1e-13)
    assert not torch.allclose(SampledFisher(double(mlp(17)), Rng(4), 2).dense(), whole.dense(), rtol=1e-3)
    state = torch.random.get_rng_state()
    assert torch.equal(SampledFisher(Objective(mlp()), Rng(3)).dense(), SampledFisher(Objective(mlp()), Rng(3)).dense())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("kind", [Fisher, partial(SampledFisher, rng=Rng(0)), EmpiricalFisher])
def test_a_block_is_the_restriction(kind: Callable[..., Operator]) -> None:
    objective = double(mlp())
    for only in (["0"], ["2.weight"], ["0.bias", "4"]):
        restricted = Restricted(kind(objective), positions(objective, only))
        torch.testing.assert_close(kind(objective, only=only).dense(), restricted.dense(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", [Fisher, partial(SampledFisher, rng=Rng(0)), EmpiricalFisher])
def test_parameters_that_nothing_depends_on_have_zero_rows(kind: Callable[..., Operator]) -> None:
    objective = double(held(built(Routed), random(9, 2), classes(9)))
    assert torch.equal(kind(objective, only=["idle"]).dense(), torch.zeros(9, 9, dtype=torch.float64))


@pytest.mark.parametrize("kind", [Fisher, partial(SampledFisher, rng=Rng(0)), EmpiricalFisher])
@pytest.mark.parametrize("make", [mlp, tokens, binary, regression])
def test_products_in_the_models_own_precision_are_close(
    kind: Callable[..., Operator], make: Callable[[], Solution]
) -> None:
    truth = kind(double(make())).dense()
    vector = random(len(truth), seed=5)
    found = kind(Objective(make())) @ vector
    assert found.dtype == torch.float32
    assert float((found - truth @ vector.double()).norm()) < 1e-4 * float(truth.norm() * vector.norm())


def weighted_class_gradients(solution: Solution, weights: torch.Tensor) -> torch.Tensor:
    y = torch.cat([batch.y.reshape(-1) for batch in solution.task.splits["train"]])
    return weights[y[y != -100]]


def test_a_target_of_class_weight_w_counts_w_times() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    loss = adapt(nn.CrossEntropyLoss(weight=weights), None, None)
    plain, solution = mlp(double=True), with_loss(mlp(double=True), loss)
    counts = weighted_class_gradients(plain, weights)
    gradients, _ = single_gradients(plain, categorical)
    truth = (gradients * counts[:, None]).T @ gradients / counts.sum()
    torch.testing.assert_close(EmpiricalFisher(double(solution)).dense(), truth, rtol=1e-9, atol=1e-10)
    repeated = [i for i, y in enumerate(plain.task.splits["train"].y) for _ in range(int(weights[y]))]  # type: ignore[attr-defined]
    data = plain.task.splits["train"]
    copies = held(plain.net.module, data.x[repeated], data.y[repeated])  # type: ignore[attr-defined]
    torch.testing.assert_close(Fisher(double(solution)).dense(), dense_fisher(copies), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(
        Fisher(double(solution)).dense(), GaussNewton(double(solution)).dense(), rtol=1e-9, atol=1e-10
    )


def test_smoothing_moves_the_empirical_one_alone() -> None:
    plain, smooth = (with_loss(mlp(), CrossEntropy(label_smoothing=part)) for part in (0.0, 0.3))
    torch.testing.assert_close(Fisher(double(smooth)).dense(), Fisher(double(plain)).dense(), rtol=1e-12, atol=1e-14)
    sampled = [SampledFisher(double(one), Rng(0)).dense() for one in (plain, smooth)]
    torch.testing.assert_close(*sampled, rtol=1e-12, atol=1e-14)
    empirical = [EmpiricalFisher(double(one)).dense() for one in (plain, smooth)]
    assert float((empirical[0] - empirical[1]).abs().max()) > 1e-3


def test_targets_may_be_probabilities() -> None:
    y = random(17, 3, seed=9).softmax(1)
    solution = with_targets(mlp(), y, CrossEntropy())
    torch.testing.assert_close(Fisher(double(solution)).dense(), dense_fisher(mlp()), rtol=1e-9, atol=1e-10)
    rows = []
    for n in range(17):
        single = with_targets(mlp(num_examples=17), y, CrossEntropy())
        data = single.task.splits["train"]
        one = held(single.net.module, data.x[n : n + 1], y[n : n + 1])  # type: ignore[attr-defined]
        rows.append(double(one).gradient())
    truth = torch.stack(rows).T @ torch.stack(rows) / 17
    torch.testing.assert_close(EmpiricalFisher(double(solution)).dense(), truth, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "known", "own"),
    [
        (mlp, CrossEntropy(), nn.CrossEntropyLoss()),
        (mlp, CrossEntropy(), F.cross_entropy),
        (tokens, CrossEntropy(ignore_index=2), nn.CrossEntropyLoss(ignore_index=2)),
        (regression, SquaredError(), nn.MSELoss()),
        (binary, BinaryCrossEntropy(), OwnLoss(function=nn.BCEWithLogitsLoss(), count=torch.numel, kind="binary")),
    ],
)
def test_torchs_losses_are_read_even_with_a_count_of_the_callers(make: Any, known: Loss, own: Any) -> None:
    solution = make()
    if make is tokens:
        y = classes(17, 4, num_classes=5, seed=2)
        solution = with_targets(solution, y, CrossEntropy())
    if make is binary:
        y = classes(17, 1, num_classes=2).float()
        solution = with_targets(solution, y, BinaryCrossEntropy())
    count = (lambda y: (y != 2).sum()) if make is tokens else torch.numel
    loss = own if isinstance(own, OwnLoss) else adapt(own, count, None)
    assert isinstance(loss, OwnLoss)
    for kind in (Fisher, partial(SampledFisher, rng=Rng(0)), EmpiricalFisher):
        truth = kind(double(with_loss(solution, known))).dense()  # type: ignore[operator]
        found = kind(double(with_loss(solution, loss))).dense()  # type: ignore[operator]
        torch.testing.assert_close(found, truth, rtol=1e-10, atol=1e-12)


def test_log_probabilities_are_scores_too() -> None:
    module = mlp().net.module
    logs = nn.Sequential(*module, nn.LogSoftmax(1))  # type: ignore[misc]
    data = mlp().task.splits["train"]
    solution = held(logs, data.x, data.y, loss=adapt(nn.NLLLoss(), None, None))  # type: ignore[attr-defined]
    torch.testing.assert_close(Fisher(double(solution)).dense(), dense_fisher(mlp()), rtol=1e-9, atol=1e-10)


def test_a_function_of_the_users_has_an_empirical_matrix_and_no_other() -> None:
    function = lambda outputs, y: F.multi_margin_loss(outputs, y)  # noqa: E731
    solution = with_loss(mlp(), OwnLoss(function=function, kind="categorical"))
    gradients, _ = single_gradients(solution, lambda z, t: F.multi_margin_loss(z[None], t[None]))
    truth = gradients.T @ gradients / len(gradients)
    for per in ("target", "example"):
        found = EmpiricalFisher(double(solution), per=per).dense()  # type: ignore[arg-type]
        torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-10)
    for kind in (Fisher, partial(SampledFisher, rng=Rng(0))):
        with pytest.raises(LossError, match=r"log-likelihood.*CrossEntropyLoss.*EmpiricalFisher"):
            kind(Objective(solution))  # type: ignore[operator]


def test_a_count_of_the_users_hides_the_targets_but_not_the_examples() -> None:
    def function(outputs: Any, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.logits, y)

    own = OwnLoss(function=function, count=lambda y: (y != -100).sum(), kind="categorical")
    known = Picked(loss=CrossEntropy())
    solution = with_loss(tokens(), own)
    with pytest.raises(LossError, match=r"single targets.*per=\"example\""):
        EmpiricalFisher(double(solution)).dense()
    truth = EmpiricalFisher(double(with_loss(tokens(), known)), per="example").dense()
    torch.testing.assert_close(EmpiricalFisher(double(solution), per="example").dense(), truth, rtol=1e-10, atol=1e-12)


def test_a_pick_that_bends_belongs_to_the_network() -> None:
    """The Fisher matrix is that of the distribution, so it does not care where its logits are computed."""
    data = mlp().task.splits["train"]
    doubled = held(mlp().net.module, data.x, data.y, loss=Picked(loss=CrossEntropy(), pick=lambda z: z.sinh()))  # type: ignore[attr-defined]
    gradients, _ = single_gradients(doubled, categorical)
    torch.testing.assert_close(
        EmpiricalFisher(double(doubled)).dense(), gradients.T @ gradients / 17, rtol=1e-9, atol=1e-10
    )
    torch.testing.assert_close(Fisher(double(doubled)).dense(), dense_fisher(doubled), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)),
        nn.L1Loss(),
    ],
)
def test_what_is_no_likelihood_of_single_targets_is_refused(loss: nn.Module) -> None:
    solution = with_loss(mlp(), adapt(loss, None, None))
    with pytest.raises(LossError, match="log-likelihood was required"):
        Fisher(Objective(solution))


def test_impossible_settings_and_outputs_are_refused() -> None:
    with pytest.raises(SettingsError, match="num_draws=0"):
        SampledFisher(Objective(mlp()), Rng(0), 0)
    with pytest.raises(SettingsError, match="'token'"):
        EmpiricalFisher(Objective(mlp()), per="token")  # type: ignore[arg-type]

    class TimeFirst(Tokens):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x).logits.permute(2, 1, 0)

    solution = tokens()
    data = solution.task.splits["train"]
    pick = lambda z: z.permute(2, 1, 0)  # noqa: E731
    turned = held(built(TimeFirst), data.x, data.y, loss=Picked(loss=CrossEntropy(), pick=pick))  # type: ignore[attr-defined]
    with pytest.raises(LossError, match=r"one row an example, 5 of them"):
        EmpiricalFisher(Objective(turned), per="example") @ torch.ones(turned.num_parameters)
    torch.testing.assert_close(
        EmpiricalFisher(double(turned)).dense(),
        EmpiricalFisher(double(with_loss(solution, Picked(loss=CrossEntropy())))).dense(),
    )


def test_the_plain_door_hands_options_on() -> None:
    module = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    data = random(9, 2), classes(9)
    drawn = SampledFisher.of(module, nn.CrossEntropyLoss(), data, rng=Rng(0), num_draws=3, batch_size=4, only=["2"])
    assert (drawn.num_draws, drawn.size) == (3, 15)
    assert EmpiricalFisher.of(module, nn.CrossEntropyLoss(), data, per="example", dtype=torch.float64).per == "example"


@pytest.mark.parametrize("times", [1.0, 7.0])
def test_class_weights_count_in_an_example_as_in_its_target(times: float) -> None:
    """The mean loss does not know the scale of the weights, and neither may the gradients of single examples."""
    x, y = random(9, 3), classes(9)
    weights = times * torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    module = built(lambda: nn.Linear(3, 3))
    how = {"dtype": torch.float64}
    truth = EmpiricalFisher.of(module, nn.CrossEntropyLoss(weight=weights / times), (x, y), **how).dense()
    found = EmpiricalFisher.of(module, nn.CrossEntropyLoss(weight=weights), (x, y), per="example", **how).dense()
    torch.testing.assert_close(found, truth)


def test_class_weights_of_several_targets_an_example_are_refused() -> None:
    module = built(lambda: nn.Conv1d(2, 3, 1))
    loss, data = (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5])),
        (random(6, 2, 4), classes(6)[:, None].expand(6, 4)),
    )
    with pytest.raises(LossError, match=r'with weights came: say per="target"'):
        EmpiricalFisher.of(module, loss, data, per="example").dense()
    loss.label_smoothing = 0.1
    for per in ("target", "example"):
        with pytest.raises(LossError, match="with weights came: leave one of both"):
            EmpiricalFisher.of(module, loss, data, per=per).dense()
