"""Copies of inputs against a comparison of every pair."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vallis.core.errors import DataError
from vallis.numerics.duplicates import distinct, first_copies


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 2)), min_size=1, max_size=20), st.booleans())
def test_the_first_equal_row(rows: list[tuple[int, int]], double: bool) -> None:
    x = torch.tensor(rows, dtype=torch.float64 if double else torch.float32)
    assert first_copies(x).tolist() == [rows.index(row) for row in rows]


def test_minus_zero_and_any_shape() -> None:
    x = torch.tensor([[[0.0, 1.0]], [[-0.0, 1.0]], [[0.0, 2.0]]])
    assert first_copies(x).tolist() == [0, 0, 2]
    assert first_copies(x.transpose(0, 2)).tolist() == [0, 1]


def test_copies_with_one_target_count_once_and_with_two_are_refused() -> None:
    x = torch.tensor([[1.0], [2.0], [1.0], [3.0]])
    assert distinct(x, torch.tensor([5, 6, 5, 5])).tolist() == [0, 1, 3]
    assert distinct(x, torch.tensor([[5, 1], [6, 1], [5, 1], [5, 1]])).tolist() == [0, 1, 3]
    with pytest.raises(DataError, match=r"examples 0 and 2 \(of 1 such"):
        distinct(x, torch.tensor([5, 6, 7, 5]))
    with pytest.raises(DataError, match="examples 0 and 2"):
        distinct(x, torch.tensor([[5, 1], [6, 1], [5, 2], [5, 1]]))
