from __future__ import annotations

import pytest
import torch
from torch import nn

from vallis.numerics.batched_values import slopes_of, values_of
from vallis.numerics.program_kernels import activation


@pytest.mark.parametrize("module", [nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.GELU(), nn.GELU(approximate="tanh")])
def test_every_way_is_the_activation_and_its_derivative(module: nn.Module) -> None:
    kernel = activation(module)
    assert kernel is not None
    x, slope = torch.randn(3, 4, 16, requires_grad=True), torch.randn(3, 4, 16)
    out = module(x)
    (expected,) = torch.autograd.grad(out, x, slope)
    for way in values_of(kernel):
        found = torch.zeros_like(out)
        way(x.detach(), found)
        torch.testing.assert_close(found, out.detach())
    for way in slopes_of(kernel):
        found = torch.zeros_like(out)
        way(slope, x.detach(), out.detach(), found)
        torch.testing.assert_close(found, expected)


def test_the_ways_of_one_activation_are_found_again() -> None:
    assert activation(nn.GELU()) is activation(nn.GELU())
    kernel = activation(nn.Tanh())
    assert kernel is not None
    assert values_of(kernel) is values_of(kernel)
    assert slopes_of(kernel) is slopes_of(kernel)
