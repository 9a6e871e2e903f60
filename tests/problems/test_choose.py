from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vallis.core.data import Arrays, Batches, Stream
from vallis.core.errors import DataError
from vallis.core.rng import Rng
from vallis.core.types import Batch
from vallis.problems._choose import choose, stratified_order, whole

CLASSES = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(torch.tensor)


@settings(max_examples=60, deadline=None)
@given(y=CLASSES, seed=st.integers(0, 5))
def test_every_prefix_is_stratified(y: torch.Tensor, seed: int) -> None:
    order = stratified_order(y, Rng(seed))
    assert order.sort().values.equal(torch.arange(len(y)))
    share = torch.bincount(y, minlength=5) / len(y)
    for length in range(1, len(y) + 1):
        held = torch.bincount(y[order[:length]], minlength=5)
        # As near as integers allow, up to the ties between five classes.
        assert (held - share * length).abs().max() <= 2


def test_balanced_classes_stay_balanced() -> None:
    y = torch.arange(10).repeat(30)
    for number in (10, 50, 290):
        assert torch.bincount(y[choose(y, number, Rng(0), "x")]).unique().tolist() == [number // 10]


def test_choices_are_nested_ascending_and_seeded() -> None:
    y = torch.randint(4, (200,), generator=torch.Generator().manual_seed(0))
    small, large = (choose(y, number, Rng(1), "x") for number in (40, 100))
    assert set(small.tolist()) < set(large.tolist())
    assert small.equal(small.sort().values)
    assert small.equal(choose(y, 40, Rng(1), "x"))
    assert not small.equal(choose(y, 40, Rng(2), "x"))


def test_all_and_too_many() -> None:
    y = torch.zeros(5, dtype=torch.int64)
    assert choose(y, None, Rng(0), "x").tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match=r"toys\.num_train must be at most 5, .* 6 came"):
        choose(y, 6, Rng(0), "toys.num_train")


def test_a_split_as_a_whole() -> None:
    x, y, index = torch.rand(5, 2), torch.arange(5), torch.arange(5)
    assert whole(Arrays(x=x, y=y, index=index)).x is x
    parts = tuple(Batch(x=x[i : i + 2], y=y[i : i + 2], index=index[i : i + 2]) for i in (0, 2, 4))
    assert whole(Batches(kept=parts)).x.equal(x)
    with pytest.raises(DataError, match="random access"):
        whole(Stream(lambda: [(x, y)]))
