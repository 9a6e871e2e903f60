"""What every problem must do: the same examples for the same stream, each with an identity of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vallis.core import tree
from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.spec import from_spec, name_of, to_spec
from vallis.core.types import Task
from vallis.testing.conformance.parts import Check, is_quick, require, untouched_surroundings

_RNG = Rng(0).child("problem")


def is_a_problem(part: Any) -> None:
    """It offers what the protocol asks for."""
    require(isinstance(part, Problem), f"{name_of(part)} must have version and build")


def same_stream_same_examples(part: Any) -> None:
    """Built twice, and once more from its JSON, it is the same; nothing global changes."""
    with untouched_surroundings(f"{name_of(part)}.build"):
        first = _prints(part.build(_RNG))
    require(first == _prints(part.build(_RNG)), f"{name_of(part)} must build the same examples for the same stream")
    again = from_spec(to_spec(part))
    require(first == _prints(again.build(_RNG)), f"{name_of(part)} must build the same examples after its JSON")


def splits_are_sound(part: Any) -> None:
    """Every task has a train split, no split is empty, two passes agree, and `take` gives what a pass gives."""
    tasks = part.build(_RNG)
    require(len(tasks) > 0, f"{name_of(part)} must have a task")
    require(len({task.name for task in tasks}) == len(tasks), "tasks must have names of their own")
    for task in tasks:
        require("train" in task.splits, f'task {task.name} must have a split "train"')
        for name, split in task.splits.items():
            where = f"split {name} of {task.name}"
            once, again = list(split), list(split)
            require(len(split) == sum(len(batch) for batch in once) > 0, f"{where} must hold as many as it says, not 0")
            require(tree.fingerprint(once) == tree.fingerprint(again), f"{where} must be the same at every pass")
            same = tree.fingerprint(split.take(torch.arange(len(once[0])))) == tree.fingerprint(once[0])
            require(same, f"{where} must give the same examples to take as to a pass")


def examples_have_identities(part: Any) -> None:
    """No two examples of the problem have one index."""
    tasks = part.build(_RNG)
    index = torch.cat([batch.index for task in tasks for split in task.splits.values() for batch in split])
    require(index.dtype == torch.int64, "an index must be int64")
    require(len(index.unique()) == len(index), f"{name_of(part)} must give each example an index of its own")


def values_are_finite(part: Any) -> None:
    """No NaN, and every example's loss counts something."""
    for task in part.build(_RNG):
        for name, split in task.splits.items():
            for batch in split:
                floating = [leaf for leaf in tree.tensors((batch.x, batch.y)) if leaf.is_floating_point()]
                require(all(bool(leaf.isfinite().all()) for leaf in floating), f"{name} of {task.name} holds NaN")
                require(task.loss.weight(batch.y) > 0, f"a batch of {name} of {task.name} counts nothing")


def builds_quickly(part: Any) -> None:
    """The tiny settings build in under a second."""
    is_quick(f"{name_of(part)}.build", lambda: part.build(_RNG))


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        is_a_problem,
        same_stream_same_examples,
        splits_are_sound,
        examples_have_identities,
        values_are_finite,
        builds_quickly,
    )
}


def _prints(tasks: tuple[Task, ...]) -> dict[tuple[str, str], str]:
    return {(task.name, name): split.fingerprint() for task in tasks for name, split in task.splits.items()}
