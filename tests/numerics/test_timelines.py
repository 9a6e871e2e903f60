"""Growing buffers, against lists."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vallis.core.errors import DataError
from vallis.numerics.timelines import Timelines, rank_among_equals

CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    batches=st.lists(st.lists(st.sampled_from([-7, 0, 3, 4, 10**12]), max_size=9), max_size=8),
    capacity=st.integers(1, 3),
    is_open=st.booleans(),
)
def test_every_entry_lands_at_its_own_turn(batches: list[list[int]], capacity: int, is_open: bool) -> None:
    known = None if is_open else torch.tensor([3, 10**12, -7, 4, 0])
    held, expected, count = Timelines(known, capacity, ("value",), CPU), {}, 0  # type: ignore[var-annotated]
    for turn, batch in enumerate(batches):
        values = torch.arange(count, count + len(batch)).float()
        count += len(batch)
        held.append(torch.tensor(batch, dtype=torch.long), {"value": values, "correct": values % 2 == 0}, turn)
        for name, value in zip(batch, values.tolist(), strict=True):
            expected.setdefault(name, []).append((value, value % 2 == 0, turn))
    if not is_open:
        assert held.identities.tolist() == [-7, 0, 3, 4, 10**12]
    for column, name in enumerate(held.identities.tolist()):
        number = int(held.seen[column])
        columns = [held.buffers[key][:number, column].tolist() for key in ("value", "correct", "updates")]
        assert list(zip(*columns, strict=True)) == expected.get(name, [])
    names, values = held.entries()
    for name in set(names.tolist()):
        chosen = names == name
        found = zip(*(values[key][chosen].tolist() for key in ("value", "correct", "updates")), strict=True)
        assert list(found) == expected[name]


def test_identities_in_a_row_need_no_search() -> None:
    held = Timelines(torch.arange(5, 9), 1, (), CPU)
    assert held.rows(torch.tensor([8, 5])).tolist() == [3, 0]
    for unknown in (4, 9):
        with pytest.raises(DataError, match=f"made for were required, {unknown} came"):
            held.rows(torch.tensor([6, unknown]))


def test_unknown_and_repeated_identities_are_refused() -> None:
    held = Timelines(torch.tensor([4, 1, 9]), 1, (), CPU)
    assert held.rows(torch.tensor([9, 4])).tolist() == [2, 1]
    for unknown in (0, 5, 10):
        with pytest.raises(DataError, match=f"required, {unknown} came"):
            held.rows(torch.tensor([unknown]))
    with pytest.raises(DataError, match="distinct"):
        Timelines(torch.tensor([1, 2, 1]), 1, (), CPU)


def test_rank_among_equals() -> None:
    assert rank_among_equals(torch.tensor([5, 2, 5, 5, 2, 7])).tolist() == [0, 0, 1, 2, 1, 0]
    assert rank_among_equals(torch.zeros(0, dtype=torch.long)).tolist() == []
