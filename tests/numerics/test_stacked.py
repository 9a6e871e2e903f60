from __future__ import annotations

import pytest
import torch

from vallis.numerics.stacked import Stacked, aligned


def test_rows_begin_where_a_tensor_of_its_own_would() -> None:
    stacked = Stacked.apart([torch.randn(3, 7) for _ in range(4)]).together()
    assert all(member.data_ptr() % 64 == 0 for member in stacked.members)
    assert all(member.is_contiguous() for member in stacked.members)
    assert (aligned(1, torch.float32), aligned(16, torch.float32), aligned(17, torch.float64)) == (16, 16, 24)


@pytest.mark.parametrize("width", [7, 16])
def test_a_whole_is_taken_apart_and_put_together(width: int) -> None:
    whole = torch.randn(4, 2, width)
    stacked = Stacked.of_whole(whole)
    assert torch.equal(stacked.whole, whole)
    assert torch.equal(torch.stack(stacked.members), whole)
    assert (stacked.rows.data_ptr() == whole.data_ptr()) == (width == 16)


def test_what_lies_apart_is_brought_together_when_asked_for() -> None:
    parts = [torch.randn(3, 7) for _ in range(4)]
    stacked = Stacked.apart(parts)
    assert stacked.is_apart
    assert stacked.reshaped(21).is_apart
    assert all(ours is theirs for ours, theirs in zip(stacked.members, parts, strict=True))
    assert torch.equal(stacked.whole, torch.stack(parts))
    assert not stacked.is_apart
    assert torch.equal(stacked.reshaped(7, 3).whole[2], parts[2].view(7, 3))


@pytest.mark.parametrize("bring", [False, True])
def test_sums_are_those_of_each(bring: bool) -> None:
    one, other = (Stacked.apart([torch.randn(5) for _ in range(2)]) for _ in range(2))
    found = (one.together() if bring else one).plus(other)
    assert torch.equal(found.whole, one.whole + other.whole)


def test_only_what_leaves_nothing_over_is_even(monkeypatch: pytest.MonkeyPatch) -> None:
    even, odd = (Stacked.empty(3, (8, width), torch.empty(0)) for width in (2, 3))
    assert even.is_even
    assert not odd.is_even
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert even.is_even
    assert not Stacked.empty(3, (2**14, 2), torch.empty(0)).is_even
