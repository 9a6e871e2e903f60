"""Convolutions by their own derivatives: the same numbers as torch's, to any order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from vallis.numerics.convolutions import Geometry, OwnConvolutions, _Convolution

CASES: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": (F.conv2d, (2, 3, 5, 4), (4, 3, 3, 2), {}),
    "strided": (F.conv2d, (2, 3, 7, 6), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    "uneven": (F.conv2d, (2, 2, 7, 6), (4, 2, 3, 2), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    "grouped": (F.conv2d, (2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2}),
    "depthwise": (F.conv2d, (1, 4, 5, 5), (4, 1, 3, 3), {"groups": 4, "padding": (1,)}),
    "one axis": (F.conv1d, (3, 2, 9), (4, 2, 3), {"stride": 2}),
    "three axes": (F.conv3d, (2, 2, 4, 4, 4), (3, 2, 2, 2, 2), {"padding": 1}),
    "same": (F.conv2d, (2, 3, 5, 5), (4, 3, 2, 2), {"padding": "same"}),
    "no batch": (F.conv2d, (3, 5, 5), (4, 3, 2, 2), {}),
}


def drawn(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_values_and_both_derivatives_are_torchs(case: str, bias: bool) -> None:
    convolve, x_shape, w_shape, how = CASES[case]
    x, w = drawn(*x_shape, seed=0), drawn(*w_shape, seed=1)
    b = drawn(w_shape[0], seed=2) if bias else None
    leaves = [leaf for leaf in (x, w, b) if leaf is not None]

    def products() -> list[torch.Tensor]:
        outputs = convolve(x, w, b, **how)
        first = torch.autograd.grad((outputs**3).sum(), leaves, create_graph=True)
        vectors = [drawn(*leaf.shape, seed=10 + place).detach() for place, leaf in enumerate(leaves)]
        return [outputs, *first, *torch.autograd.grad(first, leaves, vectors)]

    plain = products()
    with OwnConvolutions():
        own = products()
    for one, other in zip(own, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_derivatives_of_every_order_agree_with_differences() -> None:
    x, w = drawn(1, 2, 4, 4, seed=0), drawn(2, 2, 3, 3, seed=1)
    geometry = Geometry([2, 1], [1, 0], [1, 1], 1)
    assert torch.autograd.gradcheck(lambda x, w: _Convolution.apply(x, w, geometry), (x, w))
    assert torch.autograd.gradgradcheck(lambda x, w: _Convolution.apply(x, w, geometry), (x, w))


def test_a_model_may_use_function_transforms_inside() -> None:
    x, w = drawn(3, 2, 4, 4, seed=0), drawn(2, 2, 3, 3, seed=1)

    def energies() -> torch.Tensor:
        return torch.func.vmap(torch.func.grad(lambda one: (F.conv2d(one[None], w) ** 3).sum()))(x)

    plain = energies()
    with OwnConvolutions():
        torch.testing.assert_close(energies(), plain)


def test_leaving_puts_torch_back() -> None:
    x, w = drawn(1, 2, 4, 4, seed=0), drawn(2, 2, 3, 3, seed=1)
    with OwnConvolutions():
        assert type(F.conv2d(x, w).grad_fn).__name__ == "_ConvolutionBackward"
    assert type(F.conv2d(x, w).grad_fn).__name__ == "ConvolutionBackward0"


@pytest.mark.parametrize("case", ["strided", "uneven", "grouped", "one axis"])
def test_once_differentiable_ones_are_linear_in_what_they_pull_back(case: str) -> None:
    """The derivative along v is had by transposing the transpose, and is torch's."""
    convolve, x_shape, w_shape, how = CASES[case]
    x, w, v = drawn(*x_shape, seed=0), drawn(*w_shape, seed=1), drawn(*w_shape, seed=2).detach()

    def along() -> torch.Tensor:
        hidden = torch.tanh(convolve(x, w, **how))
        slopes = torch.zeros_like(hidden, requires_grad=True)
        (pulled,) = torch.autograd.grad(hidden, w, slopes, create_graph=True)
        return torch.autograd.grad(pulled, slopes, v)[0]

    plain = along()
    with OwnConvolutions(twice=False):
        torch.testing.assert_close(along(), plain, rtol=1e-11, atol=1e-11)
