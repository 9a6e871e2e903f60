"""Every way that is taken against the pairs one by one: the same bits, for shapes of all sorts."""

from __future__ import annotations

import pytest
import torch

from vallis.numerics import same_bits
from vallis.numerics.batched_products import AFFINE, BIAS_SLOPES, INPUT_SLOPES, LINEAR, WEIGHT_SLOPES
from vallis.numerics.same_bits import Way, chosen
from vallis.numerics.stacked import Stacked

SHAPES = [(5, 1, 20, 2), (2, 16, 784, 50), (3, 7, 33, 5), (4, 128, 50, 10), (9, 32, 64, 64)]


def stack(size: int, *shape: int, seed: int) -> torch.Tensor:
    made = Stacked.empty(size, shape, torch.empty(0))
    made.whole.copy_(torch.randn(size, *shape, generator=torch.Generator().manual_seed(seed)))
    return made.whole


def operands(size: int, batch: int, inputs: int, outputs: int) -> dict[tuple[Way, ...], list[torch.Tensor | None]]:
    x, weight = stack(size, batch, inputs, seed=1), stack(size, outputs, inputs, seed=2)
    bias, slope = stack(size, outputs, seed=3), stack(size, batch, outputs, seed=4)
    return {
        AFFINE: [x, weight, bias, torch.zeros_like(slope)],
        LINEAR: [x, weight, None, torch.zeros_like(slope)],
        WEIGHT_SLOPES: [slope, x, torch.zeros_like(weight)],
        BIAS_SLOPES: [slope, torch.zeros_like(bias)],
        INPUT_SLOPES: [slope, weight, torch.zeros_like(x)],
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_taken_has_the_bits_of_one_by_one(shape: tuple[int, int, int, int]) -> None:
    taken, wanted = operands(*shape), operands(*shape)
    for ways in taken:
        chosen(ways, *taken[ways])(*taken[ways])
        ways[0](*wanted[ways])
        assert torch.equal(taken[ways][-1], wanted[ways][-1])  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_way_computes_the_same_up_to_rounding(shape: tuple[int, int, int, int]) -> None:
    exact = {
        AFFINE: lambda x, w, b, _: x @ w.mT + b[:, None],
        LINEAR: lambda x, w, _, __: x @ w.mT,
        WEIGHT_SLOPES: lambda d, x, _: d.mT @ x,
        BIAS_SLOPES: lambda d, _: d.sum(1),
        INPUT_SLOPES: lambda d, w, _: d @ w,
    }
    for ways, given in operands(*shape).items():
        expected = exact[ways](*(None if tensor is None else tensor.double() for tensor in given))
        for way in ways:
            given[-1].zero_()  # type: ignore[union-attr]
            way(*given)
            torch.testing.assert_close(given[-1].double(), expected, rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]


def test_usual_layers_go_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    # (The clock may favour a loop on a busy machine, so it is taken away: what agrees last is then taken.)
    monkeypatch.setattr(same_bits, "_seconds", lambda way, _: -int("_each" not in way.__name__))
    same_bits._chosen.cache_clear()
    found = [chosen(ways, *given) for ways, given in operands(4, 64, 128, 128).items()]
    same_bits._chosen.cache_clear()
    # Which library multiplies is the machine's own affair; the sum over examples is torch's.
    assert found[3] is BIAS_SLOPES[1]
    assert all(way in ways for way, ways in zip(found, operands(4, 64, 128, 128), strict=True))
