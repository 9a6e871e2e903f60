"""Each kernel alone against autograd; whole networks are in test_program."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vallis.numerics.program_kernels import (
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    GroupNorm,
    HalvingMaxPool,
    Kernel,
    LayerNorm,
    Linear,
    Plain,
    Weights,
    activation,
)

BOTH = frozenset({"weight", "bias"})
Reference = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
CASES: dict[str, tuple[Kernel, Reference, tuple[int, ...], tuple[int, ...], int]] = {
    "linear": (Linear("weight", "bias", BOTH), F.linear, (5, 7), (3, 7), 3),
    "convolution": (
        Convolution("weight", "bias", BOTH, [2, 1], [1, 0], [1, 2], 2),
        lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2), 2),
        (2, 4, 9, 9),
        (6, 2, 3, 3),
        6,
    ),
    "convolution of one axis": (
        Convolution("weight", "bias", BOTH, [1], [1], [1], 1),
        lambda x, w, b: F.conv1d(x, w, b, 1, 1),
        (2, 4, 9),
        (6, 4, 3),
        6,
    ),
    "batch norm": (
        BatchNorm("weight", "bias", BOTH, (None, None, None), 0.1, 1e-5),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True, 0.1, 1e-5),
        (6, 4, 3, 3),
        (4,),
        4,
    ),
    "layer norm": (
        LayerNorm("weight", "bias", BOTH, [7], 1e-5),
        lambda x, w, b: F.layer_norm(x, (7,), w, b),
        (5, 7),
        (7,),
        7,
    ),
    "group norm": (
        GroupNorm("weight", "bias", BOTH, 2, 1e-5),
        lambda x, w, b: F.group_norm(x, 2, w, b),
        (5, 4, 3, 3),
        (4,),
        4,
    ),
}


@pytest.mark.parametrize("trained", [BOTH, frozenset({"weight"}), frozenset({"bias"}), frozenset()])
@pytest.mark.parametrize("name", CASES)
def test_layers_have_the_bits_of_autograd(name: str, trained: frozenset[str]) -> None:
    kernel, reference, shape, weight_shape, bias_size = CASES[name]
    kernel = type(kernel)(**{**vars(kernel), "trained": trained})
    torch.manual_seed(0)
    x = torch.randn(shape, requires_grad=True)
    values = {"weight": torch.randn(weight_shape), "bias": torch.randn(bias_size)}
    leaves = {key: value.clone().requires_grad_(key in trained) for key, value in values.items()}
    expected = reference(x, leaves["weight"], leaves["bias"])
    slope = torch.randn_like(expected)
    expected.backward(slope)
    weights = Weights(values, {key: torch.full_like(values[key], torch.nan) for key in trained})
    with torch.no_grad():
        out, kept = kernel.forward(weights, x.detach())
        (found,) = kernel.backward(weights, kept, slope, (True,))
        assert kernel.backward(weights, kept, slope, (False,)) == (None,)
    assert torch.equal(out, expected)
    assert found is not None and x.grad is not None
    assert torch.equal(found, x.grad)
    for key in trained:
        gradient = leaves[key].grad
        assert gradient is not None and torch.equal(weights.slopes[key], gradient), key


@pytest.mark.parametrize(
    "module", [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.GELU(), nn.GELU(approximate="tanh"), nn.LeakyReLU(0.2)]
)
def test_activations_have_the_bits_of_autograd(module: nn.Module) -> None:
    x = torch.linspace(-4, 4, 37, requires_grad=True)
    expected, slope = module(x), torch.linspace(1, 2, 37)
    expected.backward(slope)
    kernel = activation(module)
    assert kernel is not None and x.grad is not None
    with torch.no_grad():
        out, kept = kernel.forward(Weights({}, {}), x.detach())
        assert torch.equal(out, expected)
        (found,) = kernel.backward(Weights({}, {}), kept, slope, (True,))
    assert found is not None and torch.equal(found, x.grad)


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (2, 3, 7, 6), (2, 1, 5, 9)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_halving_pool_is_that_of_torch(shape: tuple[int, ...], ties: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).relu().round() if ties else torch.randn(shape)
    leaf = x.clone().requires_grad_()
    expected = F.max_pool2d(leaf, 2)
    slope = torch.randn_like(expected)
    expected.backward(slope)
    out, kept = HalvingMaxPool().forward(Weights({}, {}), x)
    (found,) = HalvingMaxPool().backward(Weights({}, {}), kept, slope, (True,))
    assert torch.equal(out, expected)
    assert out.is_contiguous()
    assert found is not None and leaf.grad is not None and torch.equal(found, leaf.grad)


def test_an_unknown_module_is_no_activation() -> None:
    assert activation(nn.RReLU()) is None


def test_dropout_draws_what_torch_would_draw() -> None:
    x = torch.randn(6, 9)
    torch.manual_seed(3)
    expected = F.dropout(x, 0.4, True)
    kernel, weights = Dropout(0.4), Weights({}, {}, torch.Generator().manual_seed(3))
    out, mask = kernel.forward(weights, x)
    assert torch.equal(out, expected)
    assert torch.equal(kernel.backward(weights, mask, x, (True,))[0], expected)  # type: ignore[arg-type]


def test_flatten_and_plain_functions() -> None:
    x, slope = torch.randn(2, 3, 4), torch.randn(2, 12)
    out, kept = Flatten().forward(Weights({}, {}), x)
    (found,) = Flatten().backward(Weights({}, {}), kept, slope, (True,))
    assert torch.equal(out, x.flatten(1))
    assert found is not None and torch.equal(found, slope.view(2, 3, 4))
    joined = Plain(torch.cat, {"dim": 1})
    out, kept = joined.forward(Weights({}, {}), [x, 2 * x])
    first, second = joined.backward(Weights({}, {}), kept, torch.ones(2, 6, 4), (True, False))
    assert torch.equal(out, torch.cat([x, 2 * x], dim=1))
    assert first is not None and torch.equal(first, torch.ones_like(x))
    assert second is None


def test_batch_norm_keeps_its_running_statistics() -> None:
    module = nn.BatchNorm1d(3, momentum=None)
    values = {"mean": torch.zeros(3), "var": torch.ones(3), "count": torch.tensor(0)}
    kernel = BatchNorm(None, None, frozenset(), ("mean", "var", "count"), None, 1e-5)
    for _ in range(3):
        x = torch.randn(8, 3)
        module(x)
        kernel.forward(Weights(values, {}), x)
    assert torch.equal(values["mean"], module.running_mean)  # type: ignore[arg-type]
    assert torch.equal(values["var"], module.running_var)  # type: ignore[arg-type]
    assert values["count"] == 3
