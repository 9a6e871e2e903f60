"""What is expected of every problem, whatever it holds."""

from __future__ import annotations

import torch

from vallis.core.data import Arrays
from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.types import Task


def build(problem: Problem, seed: int = 0) -> Task:
    """The one task of a problem, after proof that it is repeatable, well formed, and leaves the global generator."""
    before = torch.random.get_rng_state()
    (task,), (again,) = problem.build(Rng(seed)), problem.build(Rng(seed))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(task.splits) == list(again.splits)
    for name, split in task.splits.items():
        assert split.fingerprint() == again.splits[name].fingerprint()
        assert arrays(task, name).x.dtype == torch.float32
    index = torch.cat([arrays(task, name).index for name in task.splits])
    assert index.dtype == torch.int64
    assert len(index.unique()) == len(index)
    return task


def arrays(task: Task, split: str) -> Arrays:
    """A split, known to be held in memory."""
    held = task.splits[split]
    assert isinstance(held, Arrays)
    return held
