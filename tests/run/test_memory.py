from __future__ import annotations

from typing import Any

import torch

from vallis.core.types import Failed, Packed
from vallis.run.memory import pack, unpack


def test_state_and_watchers_come_back() -> None:
    state = Packed(tensors={"w": torch.ones(2), "watch/x/y": torch.zeros(1)}, values={"step": 9, "watch": {}})
    memories: dict[str, dict[str, Any]] = {"aa": {"right/x": torch.arange(3), "n": 2, "w": "text"}, "bb": {}}
    failed = {"bb": Failed(error="KeyError", message="'x'")}
    found, step, seen, lost = unpack(pack(state, 5, memories, failed))
    assert step == 5
    assert found.values == state.values
    assert {name: value.tolist() for name, value in found.tensors.items()} == {"w": [1, 1], "watch/x/y": [0]}
    assert seen["aa"].pop("right/x").tolist() == [0, 1, 2]
    assert seen == {"aa": {"n": 2, "w": "text"}, "bb": {}}
    assert lost == failed
