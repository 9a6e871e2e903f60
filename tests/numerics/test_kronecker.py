"""Kronecker factors against means over examples that plain autograd makes one by one, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.numerics.layer_solutions import LAYERED, language, odd, rectified
from tests.numerics.solutions import AWKWARD, classes, held, mlp, random, regression
from tests.numerics.test_curvature import dense_gauss_newton
from vallis.core.errors import LossError, ModelError, SettingsError, UnknownPart
from vallis.core.losses import CrossEntropy
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss, adapt
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.affine import affine_layers
from vallis.numerics.curvature import positions
from vallis.numerics.kronecker import factors, gram
from vallis.numerics.surface import in_eval_mode

ALL = AWKWARD | LAYERED


def by_hand(solution: Solution, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """E[M], E[x x'] and E[x] of a layer of an `nn.Sequential`, from explicit Jacobians of single examples."""
    module: Any = solution.net.module.double()
    outputs, inputs, mean, total = 0.0, 0.0, 0.0, 0.0
    loss = solution.task.loss
    for batch in solution.task.splits["train"]:
        for example in range(len(batch)):
            y = batch.y[example : example + 1]
            weight = loss.weight(y)
            if not weight:
                continue
            x = module[:layer](batch.x[example : example + 1].double()).detach()
            z = module[layer](x).detach()
            jacobian = torch.autograd.functional.jacobian(module[layer + 1 :], z)[0].squeeze(1)  # (C, m)
            f = module[layer + 1 :](z).detach()
            bent = torch.autograd.functional.hessian(lambda f, y=y: loss.mean(f, y), f)
            curvature = bent.reshape(f.numel(), f.numel())
            outputs = outputs + weight * jacobian.T @ curvature @ jacobian
            inputs, mean, total = inputs + weight * x.T @ x, mean + weight * x[0], total + weight
    return outputs / total, inputs / total, mean / total


def ignoring() -> Solution:
    y = classes(17)
    y[[0, 3, 4, 11]] = -100
    return held(mlp().net.module, random(17, 2), y, loss=CrossEntropy(ignore_index=-100))


def class_weights() -> Solution:
    loss = adapt(torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 4.0, 0.2], dtype=torch.float64)))
    return held(mlp().net.module, random(17, 2), classes(17), loss=loss)


@pytest.mark.parametrize("make", [mlp, rectified, regression, ignoring, class_weights])
@pytest.mark.parametrize("layer", [0, 2])
def test_the_factors_are_means_over_examples(make: Any, layer: int) -> None:
    outputs, inputs, mean = by_hand(make(), layer)
    found = factors(Objective(make(), dtype=torch.float64))[str(layer)]
    torch.testing.assert_close(found.outputs, outputs, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found.inputs, inputs, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found.mean_input, mean, rtol=1e-10, atol=1e-13)
    assert (found.layer, found.names, found.bias) == (str(layer), (f"{layer}.weight", f"{layer}.bias"), True)
    assert found.num_positions == pytest.approx(1)


@pytest.mark.parametrize("name", ALL)
def test_the_outputs_are_the_bias_block_where_a_layer_is_used_once(name: str) -> None:
    solution = in_eval_mode(ALL[name]())
    objective = Objective(solution, dtype=torch.float64)
    truth = dense_gauss_newton(solution)
    found = factors(objective)
    assert found
    for each in found.values():
        assert each.outputs.dtype == each.inputs.dtype == each.mean_input.dtype == torch.float64
        for matrix in (each.outputs, each.inputs):
            torch.testing.assert_close(matrix, matrix.T, rtol=1e-12, atol=1e-14)
            assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-12
        if each.bias and each.num_positions == pytest.approx(1):
            places = positions(objective, each.names[1:])
            torch.testing.assert_close(each.outputs, truth[places][:, places], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("turned", [False, True])
def test_a_layer_on_tokens_sums_outputs_and_averages_inputs_over_what_counts(turned: bool) -> None:
    """The last layer acts on every token by itself: it is as if each counted token were an example."""
    solution = language(turned)
    module: Any = solution.net.module.double()
    data: Any = solution.task.splits["train"]
    hidden = torch.tanh(module.mix(data.x.double())).cumsum(1).detach()
    p = module.head(hidden).softmax(-1).detach()
    counted = data.y != -100
    bends = (torch.diag_embed(p) - p[..., :, None] * p[..., None, :])[counted].mean(0)
    found = factors(Objective(language(turned), dtype=torch.float64))
    torch.testing.assert_close(found["head"].outputs, bends, rtol=1e-10, atol=1e-13)
    rows = hidden[counted]
    torch.testing.assert_close(found["head"].inputs, rows.T @ rows / len(rows), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found["head"].mean_input, rows.mean(0), rtol=1e-10, atol=1e-13)
    rows = data.x.double()[counted]
    torch.testing.assert_close(found["mix"].inputs, rows.T @ rows / len(rows), rtol=1e-10, atol=1e-13)
    assert found["mix"].num_positions == pytest.approx(4)


def test_a_convolution_sums_outputs_and_averages_patches() -> None:
    solution = LAYERED["sequence_convolution"]()
    data: Any = solution.task.splits["train"]
    found = factors(Objective(solution, dtype=torch.float64))["0"]
    patches = torch.cat([data.x[:, :, 0:2].flatten(1), data.x[:, :, 2:4].flatten(1)]).double()
    torch.testing.assert_close(found.inputs, patches.T @ patches / len(patches), rtol=1e-10, atol=1e-13)
    # The bias of a position of its own has the block M_s; they add up.
    module: Any = solution.net.module.double()
    f = lambda z: module[1:](z)  # noqa: E731
    total = torch.zeros(3, 3, dtype=torch.float64)
    for x in data.x.double():
        z = module[0](x[None]).detach()
        jacobian = torch.autograd.functional.jacobian(f, z).reshape(3, 3, 2)
        p = f(z).softmax(1)[0].detach()
        for s in range(2):
            total += jacobian[:, :, s].T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian[:, :, s] / len(data.x)
    torch.testing.assert_close(found.outputs, total, rtol=1e-10, atol=1e-13)
    assert found.num_positions == pytest.approx(2)


def test_a_layer_that_is_never_reached_has_no_curvature() -> None:
    found = factors(Objective(AWKWARD["unused"](), dtype=torch.float64))
    assert not found["idle"].outputs.any()
    assert not found["idle"].inputs.any()
    assert found["idle"].num_positions == 0
    # What only some batches go through is averaged over these: the block is the sum of them all.
    assert bool(found["one"].inputs.any())
    assert bool(found["other"].inputs.any())


@pytest.mark.parametrize("make", [mlp, LAYERED["convolutions"], language])
def test_neither_batches_nor_memory_change_the_factors(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(batch_size: int) -> dict[str, Any]:
        solution = make()
        object.__setattr__(solution.task.splits["train"], "batch_size", batch_size)
        return dict(factors(Objective(solution, dtype=torch.float64)))

    whole = found(17)
    monkeypatch.setattr("vallis.numerics.kronecker._ROWS_BYTES", 100)
    for batch_size in (1, 4, 17):
        for name, each in found(batch_size).items():
            torch.testing.assert_close(each.outputs, whole[name].outputs, rtol=1e-11, atol=1e-13)
            torch.testing.assert_close(each.inputs, whole[name].inputs, rtol=1e-11, atol=1e-13)
            torch.testing.assert_close(each.mean_input, whole[name].mean_input, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_in_other_precisions(dtype: torch.dtype) -> None:
    solution = mlp()
    data: Any = solution.task.splits["train"]
    lower = held(solution.net.module.to(dtype), data.x.to(dtype), data.y)
    own, exact = factors(Objective(lower)), factors(Objective(lower, dtype=torch.float64))
    for name, each in own.items():
        torch.testing.assert_close(each.outputs, exact[name].outputs, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(each.inputs, exact[name].inputs, rtol=1e-4, atol=1e-7)


def test_the_joint_inputs_have_a_one_appended() -> None:
    solution = rectified()
    data: Any = solution.task.splits["train"]
    found = factors(Objective(solution, dtype=torch.float64), ["0"])["0"]
    rows = torch.cat([data.x, torch.ones(17, 1)], 1).double()
    torch.testing.assert_close(found.joint_inputs, rows.T @ rows / 17, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 130])
def test_gram(width: int) -> None:
    rows = random(9, width).double()
    torch.testing.assert_close(gram(rows), rows.T @ rows, rtol=1e-13, atol=1e-13)
    assert torch.equal(gram(rows), gram(rows).T)


@pytest.mark.parametrize("make", [mlp, language, regression, class_weights])
def test_random_combinations_of_columns_are_right_on_average(make: Any) -> None:
    objective = Objective(make(), dtype=torch.float64)
    name = affine_layers(objective)[0][0].name
    exact = factors(objective, [name])[name]
    drawn = [factors(objective, [name], max_columns=1, rng=Rng(seed))[name] for seed in range(150)]
    outputs = torch.stack([each.outputs for each in drawn])
    error = outputs.std(0) / 150**0.5
    apart = (outputs.mean(0) - exact.outputs).abs() / error.clamp(min=1e-12)
    assert float(error.max()) > 0
    assert float(apart.max()) < 4.5  # of at most 21 different entries
    assert torch.equal(drawn[0].inputs, exact.inputs)
    assert (drawn[0].num_draws, exact.num_draws) == (1, 0)


def test_more_draws_scatter_less_and_as_many_as_there_are_columns_are_exact() -> None:
    objective = Objective(rectified(), dtype=torch.float64)
    exact = factors(objective, ["0"])["0"].outputs

    def error(max_columns: int) -> float:
        found = [factors(objective, ["0"], max_columns=max_columns, rng=Rng(seed))["0"].outputs for seed in range(40)]
        return float((torch.stack(found) - exact).square().mean())

    assert error(2) == 0
    language_model = Objective(language(), dtype=torch.float64)
    whole = factors(language_model, ["mix"])["mix"].outputs
    spread = [
        float(
            torch.stack(
                [
                    factors(language_model, ["mix"], max_columns=count, rng=Rng(seed))["mix"].outputs - whole
                    for seed in range(40)
                ]
            )
            .square()
            .mean()
        )
        for count in (1, 7)
    ]
    assert 3 < spread[0] / spread[1] < 16  # seven times less, up to chance
    with pytest.raises(SettingsError, match="max_columns=0"):
        factors(objective, max_columns=0)


def test_names() -> None:
    objective = Objective(rectified())
    assert list(factors(objective)) == ["0", "2", "4"]
    assert list(factors(objective, ["4", "0"])) == ["0", "4"]
    with pytest.raises(UnknownPart):
        factors(objective, ["5"])
    with pytest.raises(ModelError, match="hooked has none, because its weights act"):
        factors(Objective(odd()), ["after", "hooked"])
    assert list(factors(Objective(odd()))) == ["after", "idle"]


def test_a_loss_that_bends_down_has_none() -> None:
    module, x, y = mlp().net.module, random(9, 2), random(9, 3)
    down = held(module, x, y, loss=OwnLoss(function=lambda f, y: -((f - y) ** 2).mean()))
    with pytest.raises(LossError, match="convex"):
        factors(Objective(down))


def test_it_works_in_every_gradient_mode_and_leaves_the_solution_alone() -> None:
    solution = in_eval_mode(LAYERED["convolutions"]())
    before = {name: value.clone() for name, value in {**solution.params, **solution.buffers}.items()}
    plain = factors(Objective(solution))
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            for name, each in factors(Objective(solution)).items():
                assert torch.equal(each.outputs, plain[name].outputs)
                assert torch.equal(each.inputs, plain[name].inputs)
                assert not each.outputs.requires_grad
    after = {**solution.params, **solution.buffers}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(value.grad is None and not value.requires_grad for value in solution.params.values())
    assert all(not module._forward_hooks for module in solution.net.module.modules())
