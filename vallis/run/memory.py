"""A training at rest together with those who watch it, as one `Packed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vallis.core.types import Failed, Packed

_Memory = dict[str, Any]


def pack(state: Packed, step: int, memories: Mapping[str, _Memory], failed: Mapping[str, Failed]) -> Packed:
    """The state of a training, the steps done, and what its watchers remember."""
    tensors = {f"state/{name}": value for name, value in state.tensors.items()}
    plain: dict[str, dict[str, Any]] = {}
    for watcher, memory in memories.items():
        plain[watcher] = {key: value for key, value in memory.items() if not isinstance(value, torch.Tensor)}
        held = {key: value for key, value in memory.items() if isinstance(value, torch.Tensor)}
        # Copies: watchers count in place.
        tensors |= {f"watch/{watcher}/{key}": value.clone() for key, value in held.items()}
    said = {watcher: [failure.error, failure.message] for watcher, failure in failed.items()}
    return Packed(tensors=tensors, values={"state": dict(state.values), "step": step, "watch": plain, "failed": said})


def unpack(packed: Packed) -> tuple[Packed, int, dict[str, _Memory], dict[str, Failed]]:
    """What `pack` was given; tuples in a memory have become lists."""
    state = {name.removeprefix("state/"): value for name, value in packed.tensors.items() if name.startswith("state/")}
    memories: dict[str, _Memory] = {watcher: dict(memory) for watcher, memory in packed.values["watch"].items()}
    for name, value in packed.tensors.items():
        if name.startswith("watch/"):
            _, watcher, key = name.split("/", 2)
            memories[watcher][key] = value
    failed = {watcher: Failed(error=e, message=m) for watcher, (e, m) in packed.values["failed"].items()}
    return Packed(tensors=state, values=packed.values["state"]), packed.values["step"], memories, failed
