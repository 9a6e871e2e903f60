"""Endless data are refused in a sentence, and long ones are not."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

from tests.core.caller import is_sentence
from vallis.core import passes
from vallis.core.errors import DataError
from vallis.core.own_data import Reader

X, Y = torch.randn(10, 2, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 3


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.cycle(zip(X, Y, strict=True))


class Promising(Endless):
    def __len__(self) -> int:
        return 10


class Walk(Promising):
    """Ends, and later than it says."""

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(super().__iter__(), 30)


class Again(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.cycle([3])

    def __len__(self) -> int:
        return 10


class Cycle:
    def __iter__(self) -> Iterator[Any]:
        return itertools.cycle([(X, Y)])


ENDLESS: dict[str, tuple[Any, str]] = {
    "no length": (DataLoader(Endless(), batch_size=5), "which says no length, gave more than 40 batches"),
    "a promise": (DataLoader(Promising(), batch_size=5), "which promised 2 of them, gave more than 27 batches"),
    "a sampler": (DataLoader(TensorDataset(X, Y), batch_size=5, sampler=Again()), "which promised 2 of them"),
    "a cycle": (Cycle(), "which says no length"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_data_without_end_are_refused(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_MOST_UNPROMISED", 40)
    monkeypatch.setattr(passes, "_BEYOND_PROMISED", 7)
    data, came = ENDLESS[what]
    with pytest.raises(DataError, match="data that end were required, train") as caught:
        Reader().read(data, "train", 0)
    assert came in str(caught.value)
    assert is_sentence(str(caught.value))


def test_more_than_was_promised_are_read() -> None:
    loader = DataLoader(Walk(), batch_size=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's own, had the loader been asked for its length
        assert len(Reader().read(loader, "train", 0)) == 30


def test_who_waits_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_PATIENCE_SECONDS", -1.0)
    with pytest.warns(UserWarning, match="train says no length and goes on after 1 batches") as told:
        assert len(list(passes.bounded(iter(range(5)), "train"))) == 5
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(passes.bounded([1, 2], "train")) == [1, 2]


def test_the_bounds_are_far_from_honest_data() -> None:
    """ImageNet in batches of two is below the bound without a length, and ten times a promise is."""
    assert passes._MOST_UNPROMISED > 1_281_167 / 2
    assert len(list(passes.bounded([0] * 3, "train"))) == 3
