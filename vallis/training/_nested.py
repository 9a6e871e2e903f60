"""What trainings share that step another training: its state at rest within their own, and one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch

from vallis.core.errors import DataError, SettingsError
from vallis.core.types import Packed, Solution, StepInfo, Task

Staged = TypeVar("Staged", StepInfo, Solution)
_WITHIN = "within/"


def pack_within(inner: Packed, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> Packed:
    """A state at rest that holds that of the training within; the names of its own tensors do not begin like those."""
    held = {f"{_WITHIN}{name}": value for name, value in inner.tensors.items()}
    return Packed(tensors={**tensors, **held}, values={**values, "within": dict(inner.values)})


def packed_within(packed: Packed) -> Packed:
    """The state of the training within that `pack_within` put there."""
    held = {name: value for name, value in packed.tensors.items() if name.startswith(_WITHIN)}
    tensors = {name.removeprefix(_WITHIN): value for name, value in held.items()}
    return Packed(tensors=tensors, values=packed.values["within"])


def in_stage(found: Staged, name: str) -> Staged:
    """A step or a solution of the training within as one of this stage; stages of its own are parts of it."""
    return replace(found, stage=", ".join(part for part in (name, found.stage) if part))


def only_task(tasks: tuple[Task, ...], training: str) -> Task:
    """The one task.

    Raises:
        SettingsError: there are several; the training is named.
        DataError: there is none, or it has nothing to train on.
    """
    if len(tasks) > 1:
        raise SettingsError(f"one task was required by {training}, {len(tasks)} came: train them one by one")
    if not tasks or "train" not in tasks[0].splits:
        raise DataError(f'a task with a split "train" was required by {training}, none came: give the problem one')
    return tasks[0]
