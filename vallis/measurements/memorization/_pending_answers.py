"""Answers of many steps that wait to be recorded at once: for small batches a record of each costs more than the step.

They wait in the memory itself, as tensors with room for more, so that a checkpoint at any step has all of them, and a
training that goes on from there records the same rows together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from vallis.numerics.dynamics import DynamicsRecorder
from vallis.numerics.presentations import presentations

# How many rows wait at most, and how many bytes of scores.
_MOST_ROWS, _MOST_BYTES = 4096, 4 * 2**20
_NAMES = ("index", "scores", "targets", "steps")


def take(
    memory: dict[str, Any],
    parts: Mapping[str, torch.Tensor],
    step: int,
    kind: Literal["categorical", "binary"],
    ignored: int,
) -> None:
    """Keeps the answers of a step in memory, and records what waits there when it is full.

    Args:
        memory: of a `DynamicsRecorder`, with what waits beside it.
        parts: "index" ``(B,)``, "scores" and "targets", a row an example; they are copied.
        step: the number of the step.
        kind: how scores are judged, see `vallis.numerics.presentations.presentations`.
        ignored: the target that does not count.
    """
    rows, room = len(parts["index"]), _room(parts["scores"])
    at_once = 2 * rows > room or any(part.ndim == 0 or len(part) != rows for part in parts.values())
    if memory.get("pending", 0) and (at_once or not _go_on(memory, parts, kind, ignored)):
        memory.update(recorded(memory))  # first what came first
    if at_once:
        seen = presentations(parts["scores"], parts["targets"], kind, ignored)
        recorder = DynamicsRecorder.of_memory(memory)
        recorder.record(parts["index"], seen, step=step)
        memory.update(recorder.memory())
        return
    first = memory.get("pending", 0)
    if first == 0:
        _make_room(memory, parts, room)
        memory["pending_kind"], memory["pending_ignored"] = kind, ignored
    with torch.inference_mode(False), torch.no_grad():
        for name, part in parts.items():
            memory[f"pending_{name}"].narrow(0, first, rows).copy_(part)
        memory["pending_steps"].narrow(0, first, rows).fill_(step)
    memory["pending"] = first + rows


def recorded(memory: Mapping[str, Any]) -> dict[str, Any]:
    """What the memory holds when all that waits is recorded; the memory itself still says what it said."""
    recorder, count = DynamicsRecorder.of_memory({**memory, "seen": memory["seen"].clone()}), memory.get("pending", 0)
    if count:
        index, scores, targets, steps = (memory[f"pending_{name}"][:count] for name in _NAMES)
        seen = presentations(scores, targets, memory["pending_kind"], memory["pending_ignored"])
        recorder.record(index, seen, step=steps)
    return {**recorder.memory(), "pending": 0}


def _go_on(memory: Mapping[str, Any], parts: Mapping[str, torch.Tensor], kind: str, ignored: int) -> bool:
    """Whether the next rows go behind those that wait: alike, and few enough."""
    if (memory["pending_kind"], memory["pending_ignored"]) != (kind, ignored):
        return False
    if memory["pending"] + len(parts["index"]) > len(memory["pending_index"]):
        return False
    return all(_are_alike(memory[f"pending_{name}"], part) for name, part in parts.items())


def _are_alike(waiting: torch.Tensor, part: torch.Tensor) -> bool:
    return waiting.dtype == part.dtype and waiting.shape[1:] == part.shape[1:]


def _make_room(memory: dict[str, Any], parts: Mapping[str, torch.Tensor], room: int) -> None:
    """Buffers for so many rows, where there are none that will do."""
    with torch.inference_mode(False):
        for name, part in (*parts.items(), ("steps", torch.zeros(1, dtype=torch.int32, device="cpu"))):
            held = memory.get(f"pending_{name}")
            if held is None or len(held) != room or held.device != part.device or not _are_alike(held, part):
                memory[f"pending_{name}"] = part.new_zeros((room, *part.shape[1:]))


def _room(scores: torch.Tensor) -> int:
    """How many rows of such scores may wait."""
    each = scores.element_size() * scores.shape[1:].numel() if scores.ndim else 0
    return min(_MOST_ROWS, _MOST_BYTES // max(1, each))
