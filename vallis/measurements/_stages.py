"""Of a training whose network begins anew from stage to stage, what watches it tells of the last stage alone.

What an example went through as another network learned it is no history of this one. Where the stage stands lies in
the memory of the watcher, as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vallis.core.types import Note, StepInfo


def none() -> dict[str, Any]:
    """What a memory holds before the first step."""
    return {"stage": None, "num_stages": 0, "before_stage": 0}


def is_next(memory: dict[str, Any], info: StepInfo) -> bool:
    """Whether the step is the first of a stage, which is another than the one before; the memory keeps that."""
    if memory["stage"] == info.stage:
        return False
    memory.update(stage=info.stage, num_stages=memory["num_stages"] + 1, before_stage=info.step - 1)
    return bool(memory["num_stages"] > 1)


def notes(memory: Mapping[str, Any]) -> tuple[Note, ...]:
    """That there were other stages, where there were."""
    if memory["num_stages"] < 2:
        return ()
    text = (
        f"The training had {memory['num_stages']} stages, each from the first weights on; this is of the last, "
        f"{memory['stage']}, after {memory['before_stage']:,} steps."
    )
    return (Note(code="last_stage", text=text),)
