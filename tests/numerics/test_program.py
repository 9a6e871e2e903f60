from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.numerics.programs import NETS
from vallis.numerics.program_kernels import Weights
from vallis.numerics.program_tracing import traced


def weights_of(module: torch.nn.Module, trained: frozenset[str], seed: int = 5) -> Weights:
    values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    slopes = {name: torch.full_like(values[name], torch.nan) for name in trained}  # what stood there must not matter
    return Weights(values, slopes, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETS)
def test_three_steps_have_the_bits_of_autograd(name: str, dtype: torch.dtype) -> None:
    make, shape = NETS[name]
    torch.manual_seed(0)
    plain = make().to(dtype).train()
    module = copy.deepcopy(plain)
    x, y = torch.randn(shape, dtype=dtype), torch.randint(0, 10, shape[:1])
    names = frozenset(name for name, _ in module.named_parameters())
    program = traced(module, names)
    for _ in range(3):
        torch.manual_seed(5)
        plain.zero_grad()
        expected = plain(x)
        F.cross_entropy(expected, y).backward()
        weights = weights_of(module, names)
        with torch.no_grad():
            outputs, tape = program.forward(weights, x)
            leaf = outputs.detach().requires_grad_()
            with torch.enable_grad():
                loss = F.cross_entropy(leaf, y)
            program.backward(weights, tape, torch.autograd.grad(loss, leaf)[0])
            assert torch.equal(outputs, expected)
            for key, parameter in plain.named_parameters():
                assert parameter.grad is not None
                assert torch.equal(weights.slopes[key], parameter.grad), key
                parameter -= 0.1 * parameter.grad
                weights.values[key].copy_(parameter)
    for ours, theirs in zip(module.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("frozen", ["0.weight", "0.bias", "1.weight"])
def test_frozen_parameters_get_no_slope(frozen: str) -> None:
    make, shape = NETS["norms"]
    module = make().train()
    frozen = next(name for name, _ in module.named_parameters() if name == frozen)
    names = frozenset(name for name, _ in module.named_parameters()) - {frozen}
    x, y = torch.randn(shape), torch.randint(0, 10, shape[:1])
    expected = copy.deepcopy(module)
    dict(expected.named_parameters())[frozen].requires_grad_(False)
    F.cross_entropy(expected(x), y).backward()
    program, weights = traced(module, names), weights_of(module, names)
    with torch.no_grad():
        outputs, tape = program.forward(weights, x)
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(leaf, y)
        program.backward(weights, tape, torch.autograd.grad(loss, leaf)[0])
    for key, parameter in expected.named_parameters():
        assert (parameter.grad is None) == (key == frozen)
        assert parameter.grad is None or torch.equal(weights.slopes[key], parameter.grad)
