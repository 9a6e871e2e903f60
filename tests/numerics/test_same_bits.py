from __future__ import annotations

import pytest
import torch

from vallis.numerics import same_bits
from vallis.numerics.same_bits import chosen


def doubled(x: torch.Tensor, out: torch.Tensor) -> None:
    torch.add(x, x, out=out)


def doubled_slowly(x: torch.Tensor, out: torch.Tensor) -> None:
    for row, place in zip(x, out, strict=True):
        for _ in range(20):
            torch.mul(row, 2, out=place)


def nearly_doubled(x: torch.Tensor, out: torch.Tensor) -> None:
    torch.add(x, x, out=out)
    out[-1, -1] *= 1 + 2**-23


def with_another_zero(x: torch.Tensor, out: torch.Tensor) -> None:
    torch.add(x, x, out=out)
    out[0, 0] = -0.0


def zeroed(x: torch.Tensor, out: torch.Tensor) -> None:
    torch.add(x, x, out=out)
    out[0, 0] = 0.0


def test_of_ways_with_the_same_bits_the_quickest_is_taken() -> None:
    x = torch.randn(40, 16)
    assert chosen((doubled_slowly, doubled), x, torch.empty_like(x)) is doubled
    assert chosen((doubled, doubled_slowly), x, torch.empty_like(x)) is doubled


@pytest.mark.parametrize(("first", "other"), [(doubled_slowly, nearly_doubled), (zeroed, with_another_zero)])
def test_one_bit_is_enough_to_be_refused(first: same_bits.Way, other: same_bits.Way) -> None:
    x = torch.randn(40, 16)
    assert chosen((first, other), x, torch.empty_like(x)) is first


def test_ways_are_tried_where_the_operands_lie() -> None:
    seen = []

    def watching(x: torch.Tensor, nothing: None, shared: torch.Tensor, out: torch.Tensor) -> None:
        seen.append([(t.shape, t.stride(), t.data_ptr() % 64) for t in (x, shared, out)])
        assert nothing is None
        assert torch.equal(shared[0], shared[1])
        out.copy_(x)

    room = torch.zeros(1000)
    beyond = (-room.data_ptr() // 4) % 16
    x, out = room[beyond + 3 :].as_strided((2, 5), (20, 2)), room[beyond + 100 :].as_strided((2, 5), (1, 2))
    shared = torch.zeros(1, 7).expand(2, 7)
    before = room.clone()
    chosen((watching,), x, None, shared, out)
    assert seen
    assert all(found == [(t.shape, t.stride(), t.data_ptr() % 64) for t in (x, shared, out)] for found in seen)
    assert torch.equal(room, before)


def test_nothing_global_is_drawn_from() -> None:
    before = torch.get_rng_state()
    x = torch.randn(3, 17, generator=torch.Generator().manual_seed(1))
    chosen((doubled_slowly, nearly_doubled), x, torch.empty_like(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_compared_is_left_to_the_first() -> None:
    x = torch.randn(40, 16, dtype=torch.complex64)
    assert chosen((doubled_slowly, doubled), x, torch.empty_like(x)) is doubled_slowly
