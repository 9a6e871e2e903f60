"""Labels of any type of whole numbers are the same classes; what is no class is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vallis.core.errors import DataError
from vallis.core.rng import Rng
from vallis.numerics.class_labels import checked_classes
from vallis.numerics.transition_matrix import draw_noisy, frequencies, labelled, symmetric

NARROW = (torch.uint8, torch.int8, torch.int16, torch.int32)


@pytest.mark.parametrize("dtype", NARROW)
def test_labels_of_narrow_types_are_the_classes_that_they_say(dtype: torch.dtype) -> None:
    """As many labels as classes, none of them zero: as a mask, bytes would pick every row in turn, without a word."""
    y, matrix = torch.tensor([1, 1, 3, 2]), symmetric(4, 0.5)
    assert torch.equal(checked_classes(y.to(dtype), 4), y)
    drawn = draw_noisy(y.to(dtype), matrix, Rng(0))
    assert drawn.dtype == dtype
    assert torch.equal(drawn.long(), draw_noisy(y, matrix, Rng(0)))
    assert torch.equal(frequencies(y.to(dtype), y.to(dtype), 4)[1:], torch.eye(4, dtype=torch.float64)[1:])
    assert labelled(y.to(dtype), 300).nonzero().flatten().tolist() == [1, 2, 3]


def test_pairs_of_classes_are_counted_beyond_what_their_type_holds() -> None:
    true, noisy = torch.tensor([30, 30], dtype=torch.uint8), torch.tensor([31, 30], dtype=torch.uint8)
    found = frequencies(true, noisy, 100)  # 30 * 100 + 31 is no byte
    assert found[30, 30] == found[30, 31] == 0.5
    assert found[torch.arange(100) != 30].isnan().all()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([True, False]), "one integer class an example was required, torch.bool"),
        (torch.zeros(2), "one integer class an example was required, torch.float32"),
        (torch.zeros(2, 2, dtype=torch.int64), r"one integer class an example was required, torch.int64 \(2, 2\)"),
        ([0, 1], "one integer class an example was required, a list"),
        (torch.tensor([0, 3]), "classes in 0..2 were required, 0..3 came"),
        (torch.tensor([-1, 2]), "classes in 0..2 were required, -1..2 came"),
    ],
)
def test_what_is_no_class_is_refused(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked_classes(y, 3)
    with pytest.raises(DataError, match=message):
        draw_noisy(y, symmetric(3, 0.5), Rng(0))
    with pytest.raises(DataError, match=message):
        frequencies(y, y, 3)


def test_numbers_too_short_for_the_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"numbers that hold 300 classes were required, torch.uint8 came: give y.long"):
        checked_classes(torch.tensor([1], dtype=torch.uint8), 300)
    with pytest.raises(DataError, match="a noisy class for each true one was required, 2 came for 1"):
        frequencies(torch.tensor([0]), torch.tensor([0, 1]), 2)
    with pytest.raises(DataError, match=r"whole numbers were required as labels, torch.float32 came"):
        labelled(torch.zeros(3), 2)
