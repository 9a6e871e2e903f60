"""Forward functions that remember or draw have no graph that could stand for them."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vallis.numerics.program_graph import NoProgram, graph_of


class Skipping(nn.Module):
    """Leaves its layer out once in ten calls."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer, self.how = nn.Linear(4, 4), how
        self.own: Any = {
            "a Random": random.Random(5),
            "a numpy generator": np.random.default_rng(5),
            "a torch generator": torch.Generator().manual_seed(5),
        }.get(how)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer(x) if self._drawn() > 0.1 else x + 0 * self.layer(x)

    def _drawn(self) -> float:
        if self.how == "random":
            return random.random()
        if self.how == "numpy":
            return float(np.random.rand())  # noqa: NPY002
        if self.how == "torch":
            return torch.rand(1).item()
        return torch.rand(1, generator=self.own).item() if self.how == "a torch generator" else self.own.random()


class Warming(nn.Module):
    """Is another function from its hundredth call on."""

    def __init__(self, memory: Any) -> None:
        super().__init__()
        self.layer, self.memory = nn.Linear(4, 4), memory

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.memory, int):
            self.memory += 1
            calls = self.memory
        elif isinstance(self.memory, list):
            self.memory.append(0)
            calls = len(self.memory)
        else:
            self.memory.calls += 1
            calls = self.memory.calls
        return self.layer(x) * (2 if calls > 100 else 1)


@pytest.mark.parametrize("how", ["random", "numpy", "torch", "a Random", "a numpy generator", "a torch generator"])
def test_what_is_skipped_once_in_ten_calls_is_not_frozen(how: str) -> None:
    module = Skipping(how)
    before = random.getstate(), torch.get_rng_state()
    with pytest.raises(NoProgram, match=r"draws random numbers|changes what the module holds"):
        graph_of(module)
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("memory", [0, [], SimpleNamespace(calls=0)])
def test_what_counts_its_calls_is_not_frozen(memory: Any) -> None:
    module = Warming(memory)
    with pytest.raises(NoProgram, match="changes what the module holds"):
        graph_of(module)
    assert repr(module.memory) in ("0", "[]", "namespace(calls=0)"), "only a copy was called"
