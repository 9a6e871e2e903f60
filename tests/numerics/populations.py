"""Several small networks on few examples, trained for nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from vallis.core.own import solution_of
from vallis.core.types import Solution

Make = Callable[[], nn.Module]


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4))


def solutions(
    make: Make = small,
    *,
    count: int = 4,
    num_examples: int = 10,
    shape: Sequence[int] = (3,),
    own_x: bool = False,
    own_y: bool = False,
    loss: Any = None,
    batch_size: int = 4,
    dtype: torch.dtype = torch.float64,
) -> list[Solution]:
    """Networks with weights and running statistics of their own; `own_x` and `own_y`: examples, too.

    There are as many classes as outputs, 4, and two batches of `batch_size` with a ragged third by default.
    """
    torch.manual_seed(0)
    x, y = torch.randn(num_examples, *shape, dtype=dtype), torch.randint(0, 4, (num_examples,))
    found = []
    for _ in range(count):
        x = torch.randn_like(x) if own_x else x
        y = torch.randint(0, 4, (num_examples,)) if own_y else y
        module = make().to(dtype).eval()
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand_like(buffer) + 0.5)
        found.append(
            solution_of(module, loss or nn.CrossEntropyLoss(), train=(x, y), test=(x[:5], y[:5]), batch_size=batch_size)
        )
    return found
