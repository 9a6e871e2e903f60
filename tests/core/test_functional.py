import random
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.core.caller import of_module, of_world, untouched
from tests.core.networks import Recurrent, ResNet, Transformer, draw, mlp
from vallis.core.functional import (
    arguments,
    call,
    differentiating,
    full_precision,
    preserving_global_state,
    twice_differentiable,
)

Pair = namedtuple("Pair", "left right")
X, Z = torch.ones(2, 3), torch.zeros(2, 3)


class Takes(nn.Module):
    """Says how it was called."""


def taking(forward: Any) -> nn.Module:
    module = Takes()
    module.forward = forward
    return module


FORWARDS: dict[str, Any] = {
    "one": lambda x: x,
    "two": lambda left, right: (left, right),
    "two, one of them optional": lambda left, right=None: (left, right),
    "keywords only": lambda *, left, right: (left, right),
    "anything": lambda *args, **kwargs: (args, kwargs),
    "left and more": lambda left, **more: (left, more),
}
BOTH = {"left": X, "right": Z}


@pytest.mark.parametrize(
    ("forward", "x", "args", "kwargs"),
    [
        ("one", X, (X,), {}),
        ("one", BOTH, (BOTH,), {}),
        ("one", (X, Z), ((X, Z),), {}),
        ("one", [X, Z], ([X, Z],), {}),
        ("one", (X,), (X,), {}),
        ("one", {"x": X}, (), {"x": X}),
        ("one", Pair(X, Z), (Pair(X, Z),), {}),
        ("one", ["text"], (["text"],), {}),
        ("two", BOTH, (), BOTH),
        ("two", (X, Z), (X, Z), {}),
        ("two", [X, Z], (X, Z), {}),
        ("two, one of them optional", X, (X,), {}),
        ("two, one of them optional", BOTH, (), BOTH),
        ("two, one of them optional", [X, Z], ([X, Z],), {}),
        ("two, one of them optional", Pair(X, Z), (Pair(X, Z),), {}),
        ("keywords only", BOTH, (), BOTH),
        ("anything", BOTH, (), BOTH),
        ("anything", (X, Z), (X, Z), {}),
        ("left and more", BOTH, (), BOTH),
        ("left and more", {1: X}, ({1: X},), {}),
    ],
)
def test_inputs_are_spread_where_the_signature_takes_them(forward: str, x: Any, args: Any, kwargs: Any) -> None:
    found = arguments(taking(FORWARDS[forward]), x)
    assert _same(found, (args, kwargs))


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return type(one) is type(two) and len(one) == len(two) and all(map(_same, one, two))
    return one is two or one == two


# --------------------------------------------------------------------------------------------------------- call


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (mlp, draw(5, 3)),
        (ResNet, draw(5, 1, 4, 4)),
        (lambda: Transformer(True), draw(5, 6, 3)),
    ],
    ids=["mlp", "resnet", "transformer"],
)
def test_a_call_answers_for_other_weights_and_leaves_the_module_alone(make: Any, x: torch.Tensor) -> None:
    module, other = make().double().eval(), make().double().eval()
    params, buffers = dict(other.named_parameters()), dict(other.named_buffers())
    with untouched(module), torch.no_grad():
        found = call(module, params, buffers, x)
    with torch.no_grad():
        torch.testing.assert_close(found, other(x), rtol=1e-12, atol=1e-12)
        assert not torch.allclose(found, module(x))


def test_a_recurrent_module_answers_as_before_afterwards() -> None:
    """It keeps a second list of its weights, which must not be left behind in the hands of the last call."""
    module, other = (Recurrent(nn.LSTM, True).double().eval() for _ in range(2))
    x = draw(5, 6, 3)
    before = module(x)
    torch.testing.assert_close(call(module, dict(other.named_parameters()), {}, x), other(x))
    assert torch.equal(module(x), before)


def test_tied_weights_move_together() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)).double()
    module[1].weight = module[0].weight
    weight, x = draw(3, 3), draw(2, 3)
    torch.testing.assert_close(call(module, {"0.weight": weight}, {}, x), x @ weight.T @ weight.T)


def test_an_exception_leaves_module_and_world_as_they_were() -> None:
    module = nn.Sequential(nn.Linear(3, 3), taking(lambda x: 1 / 0))
    with untouched(module), pytest.raises(ZeroDivisionError):
        call(module, {"0.weight": torch.zeros(3, 3)}, {}, X)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_can_be_differentiated_twice(batch_first: bool) -> None:
    module = Transformer(batch_first).double().eval()
    params = {name: value.detach().requires_grad_() for name, value in module.named_parameters()}
    out = call(module, params, {}, draw(4, 5, 3)).square().mean()
    slopes = torch.autograd.grad(out, list(params.values()), create_graph=True)
    bends = torch.autograd.grad(sum(slope.square().sum() for slope in slopes), list(params.values()))
    assert all(torch.isfinite(bend).all() for bend in bends)


def test_the_math_path_is_chosen_inside_and_the_callers_choice_comes_back() -> None:
    flags = (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.flash_sdp_enabled)
    seen = []
    module = taking(lambda x: seen.append((*(flag() for flag in flags), torch.backends.mha.get_fastpath_enabled())))
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            before = of_world()
            call(module, {}, {}, X)
            assert of_world() == before
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    call(module, {}, {}, X)
    assert seen == [(True, False, False)] * 2
    assert torch.backends.mha.get_fastpath_enabled()


def test_recurrent_modules_do_without_cudnn() -> None:
    before = torch.backends.cudnn.enabled
    with twice_differentiable(nn.Sequential(nn.LSTM(2, 2))):
        assert not torch.backends.cudnn.enabled
    with twice_differentiable(nn.Linear(2, 2)):
        assert torch.backends.cudnn.enabled == before
    assert torch.backends.cudnn.enabled == before


# ------------------------------------------------------------------------------------------------- global state


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_off_inside_and_on_again_outside(dtype: torch.dtype) -> None:
    module, x = mlp().eval(), draw(5, 3).float()
    params = dict(module.named_parameters())
    wanted = call(module, params, {}, x)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(call(module, params, {}, x), wanted)
        with full_precision():
            assert torch.equal(module(x), wanted)
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == dtype
        assert module(x).dtype == dtype


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_differentiating_records_gradients_in_any_mode(mode: Any) -> None:
    with mode():
        before = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        with differentiating():
            weight = torch.ones(2, requires_grad=True)
            (slope,) = torch.autograd.grad((weight**2).sum(), weight)
        assert slope.tolist() == [2.0, 2.0]
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


@pytest.mark.parametrize("fails", [False, True])
def test_global_state_comes_back_whatever_happens(fails: bool) -> None:
    def disturb() -> None:
        torch.manual_seed(99)
        np.random.seed(99)  # noqa: NPY002
        random.seed(99)
        if fails:
            raise KeyboardInterrupt

    before = of_world()
    with torch.no_grad():
        try:
            with preserving_global_state():
                assert torch.is_grad_enabled()
                disturb()
        except KeyboardInterrupt:
            assert fails
        assert not torch.is_grad_enabled()
    assert of_world() == before


def test_the_camera_of_these_tests_sees_what_moves() -> None:
    """`untouched` guards everything else here: it must itself be able to fail."""
    module = mlp()
    before = of_module(module)
    module[0].weight.data.add_(0)
    assert of_module(module) == before
    for touch in (
        lambda: module[2].eval(),
        lambda: module[0].weight.requires_grad_(False),
        lambda: module[0].weight.data.add_(1e-7),
        lambda: setattr(module[0].weight, "grad", torch.zeros(6, 3)),
        lambda: module.register_forward_hook(print),
        lambda: module.register_buffer("extra", torch.zeros(1)),
        lambda: setattr(module, "note", 1),
        lambda: setattr(module, "0", nn.Linear(3, 6)),
    ):
        before = of_module(module)
        touch()
        assert of_module(module) != before
    for touch in (lambda: torch.rand(1), lambda: np.random.rand(), random.random):  # noqa: NPY002
        with pytest.raises(AssertionError, match="global state"), untouched():
            touch()


def test_a_module_that_stands_in_two_places_keeps_its_own_weights() -> None:
    """Torch's functional_call leaves it with those of the call, and then unties it from a third place."""
    shared, third = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
    third.weight = shared.weight
    module = nn.Sequential(shared, nn.Tanh(), shared, third)
    before, expected = of_module(module), torch.tanh(X @ torch.eye(3) * 2) * 4
    params = {"0.weight": 2 * torch.eye(3), "0.bias": torch.zeros(3)}
    for _ in range(2):
        torch.testing.assert_close(call(module, params, {}, X), expected)
    torch.func.vmap(lambda weight: call(module, params | {"0.weight": weight}, {}, X))(torch.rand(4, 3, 3))
    assert of_module(module) == before


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("normalise", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_the_second_derivative_of_weight_normalisation_is_right(normalise: Any) -> None:
    """That of torch's own operation is not, so differences of gradients are the oracle."""
    with preserving_global_state():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), normalise(nn.Linear(3, 2))).double().eval()
    x = torch.linspace(-1, 1, 10, dtype=torch.float64).view(5, 2)
    names = [name for name, _ in module.named_parameters()]
    shapes = [value.shape for value in module.parameters()]
    at = torch.cat([value.detach().reshape(-1) for value in module.parameters()])

    def loss(point: torch.Tensor) -> torch.Tensor:
        parts = point.split([shape.numel() for shape in shapes])
        params = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return (call(module, params, {}, x) ** 2).sum().sin()

    def gradient(point: torch.Tensor) -> torch.Tensor:
        point = point.clone().requires_grad_()
        return torch.autograd.grad(loss(point), point)[0]

    steps = 1e-6 * torch.eye(len(at), dtype=torch.float64)
    differences = torch.stack([(gradient(at + step) - gradient(at - step)) / 2e-6 for step in steps])
    torch.testing.assert_close(torch.autograd.functional.hessian(loss, at), differences, rtol=1e-6, atol=1e-7)
