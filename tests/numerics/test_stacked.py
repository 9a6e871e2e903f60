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
