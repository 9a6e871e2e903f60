"""Batches that are read in one call against those of each training alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.runs import begin, follow, ground
from vallis.core.data import Arrays, Batches
from vallis.core.types import Batch
from vallis.training._descent_feed import Fed, Feed, kind_of
from vallis.training.gradient_descent import GradientDescent

TRAINING = GradientDescent(batch_size=7, max_steps=40)


def states(training: GradientDescent, share: bool, width: int, taken: int = 0) -> list[Any]:
    """Three, whose inputs are one tensor or copies of it, and whose labels are their own."""
    net, (task,) = ground()
    size = 25
    x = torch.randn(size, width, 2, generator=torch.Generator().manual_seed(0))
    made = []
    for seed in range(3):
        y = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed))
        data = Arrays(x=x if share else x.clone(), y=y, index=torch.arange(size) + 100 * seed)
        state = begin(training, net, ground()[1], seed)
        follow(training, state, taken)
        state.tasks = (replace(task, splits={"train": data}),)
        state.order = state.whole = None
        made.append(state)
    return made


@pytest.mark.parametrize("width", [1, 8])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("batch_size", [7, 8, None])
@pytest.mark.parametrize("taken", [0, 3])
def test_each_is_handed_its_own_batches(batch_size: int | None, share: bool, width: int, taken: int) -> None:
    training = replace(TRAINING, batch_size=batch_size)
    together, alone = (states(training, share, width, taken) for _ in range(2))
    feed = Feed(together, batch_size)
    for _ in range(12):
        fed = feed.next()
        for place, (ours, theirs) in enumerate(zip(together, alone, strict=True)):
            batch = theirs.next_batch(batch_size)
            assert torch.equal(fed.x.members[place], batch.x)
            assert torch.equal(fed.y[place], batch.y)
            assert torch.equal(fed.index[place], batch.index)
            # Who leaves in the middle of a pass goes on where it stands.
            assert torch.equal(ours.next_batch(batch_size).index, batch.index)
            ours.step += 1
            theirs.step += 1


def test_inputs_that_all_share_lie_in_memory_once() -> None:
    fed = Feed(states(TRAINING, True, 3), None).next()
    assert fed.x.whole.stride(0) == 0
    assert Feed(states(TRAINING, False, 3), None).next().x.whole.stride(0) > 0


def test_what_can_be_read_together() -> None:
    x, y, index = torch.zeros(6, 3), torch.zeros(6, dtype=torch.int64), torch.arange(6)
    kind = kind_of(Arrays(x=x, y=y, index=index))
    assert kind is not None
    assert kind == kind_of(Arrays(x=x[:4] + 1, y=y[:4], index=index[:4]))
    assert kind != kind_of(Arrays(x=x.double(), y=y, index=index))
    assert kind_of(Arrays(x=x.t().contiguous().t(), y=y, index=index)) is None
    assert kind_of(Arrays(x=(x, x), y=y, index=index)) is None
    assert kind_of(Batches(kept=(Batch(x=x, y=y, index=index),))) is None


def test_batches_of_one_shape_are_put_together() -> None:
    batches = [Batch(x=torch.randn(size, 3), y=torch.zeros(size), index=torch.arange(size)) for size in (2, 2, 3)]
    fed = Fed.of(batches[:2])
    assert fed is not None
    assert torch.equal(fed.x.whole, torch.stack([batch.x for batch in batches[:2]]))
    assert Fed.of(batches) is None
