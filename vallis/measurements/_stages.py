"""Of a training whose network begins anew from stage to stage, what follows it tells of the last stage alone.

What an example went through as another network learned it is no history of this one, and between the snapshots of two
networks there is no way. Where the stage stands lies in the memory of a watcher as plain values, and in a solution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vallis.core.types import Note, Solution, StepInfo


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


def last_of(path: Sequence[Solution]) -> tuple[Sequence[Solution], tuple[Note, ...]]:
    """The solutions of a path that are of the same stage as its end, and a note where there were others."""
    kept = [each for each in path if each.stage == path[-1].stage]
    if len(kept) == len(path):
        return path, ()
    steps = ", ".join(f"{each.step:,}" for each in path if each.stage != path[-1].stage)
    text = (
        f"The training had several stages, each from the first weights on; this is of the last, {path[-1].stage}, "
        f"without the snapshots of others at step {steps}."
    )
    return kept, (Note(code="last_stage", text=text),)
