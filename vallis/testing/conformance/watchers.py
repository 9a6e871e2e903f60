"""What every measurement that watches training must do: keep its memory in plain sight, and through an interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save

from vallis.core import tree
from vallis.core.protocols import Watcher
from vallis.core.spec import name_of
from vallis.core.types import Outcome, Result, StepInfo
from vallis.testing.conformance.parts import Check, NotTested, is_quick, require, untouched_surroundings
from vallis.testing.conformance.results import differing, must_be_shown, must_be_sound, numbers
from vallis.testing.conformance.subjects import watched


def is_a_watcher(part: Any) -> None:
    """It offers what the protocol asks for."""
    _only_watchers(part)
    require(isinstance(part, Watcher), f"{name_of(part)} must have version, takes, begin, watch and conclude")


def answers_are_sound(part: Any) -> None:
    """Its answer is labelled and finite, the steps are as they were, nothing global changes."""
    _only_watchers(part)
    _, infos = watched()
    before = [_seen(info) for info in infos]
    with untouched_surroundings(name_of(part)):
        outcome = _watch(part, infos)
    require([_seen(info) for info in infos] == before, f"{name_of(part)} must leave the steps as they are")
    must_be_sound(name_of(part), outcome)
    if isinstance(outcome, Result) and hasattr(part, "figures"):
        must_be_shown(name_of(part), part.figures(outcome), part.reading(outcome))


def memory_survives_an_interruption(part: Any) -> None:
    """Put into JSON and safetensors after any step, it goes on to the same answer."""
    _only_watchers(part)
    start, infos = watched()
    undisturbed = _watch(part, infos)
    for stop in range(len(infos) + 1):
        memory = part.begin(start.tasks)
        for info in infos[:stop]:
            part.watch(memory, info)
        memory = _through_files(memory)
        for info in infos[stop:]:
            part.watch(memory, info)
        where = f"{name_of(part)}, interrupted after step {stop},"
        require(not _differ(part.conclude(memory), undisturbed), f"{where} must come to the same answer")


def nothing_seen_is_an_answer(part: Any) -> None:
    """A training of no steps, and one that tells of no examples, have an outcome too."""
    _only_watchers(part)
    must_be_sound(f"{name_of(part)} of no step", _watch(part, ()))
    silent = tuple(StepInfo(step=info.step, loss=info.loss, done=info.done) for info in watched()[1])
    must_be_sound(f"{name_of(part)} of silent steps", _watch(part, silent))


def is_quick_enough(part: Any) -> None:
    """It watches a short training in under a second."""
    _only_watchers(part)
    is_quick(name_of(part), lambda: _watch(part, watched()[1]))


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        is_a_watcher,
        answers_are_sound,
        memory_survives_an_interruption,
        nothing_seen_is_an_answer,
        is_quick_enough,
    )
}


def _only_watchers(part: Any) -> None:
    if part.takes != "training":
        raise NotTested("it does not watch training")


def _watch(part: Any, infos: tuple[StepInfo, ...]) -> Outcome:
    memory = part.begin(watched()[0].tasks)
    for info in infos:
        part.watch(memory, info)
    found: Outcome = part.conclude(memory)
    return found


def _through_files(memory: Mapping[str, Any]) -> dict[str, Any]:
    tensors = {key: value for key, value in memory.items() if isinstance(value, torch.Tensor)}
    plain = {key: value for key, value in memory.items() if key not in tensors}
    return {**json.loads(json.dumps(plain, allow_nan=False)), **load(save(tensors))}


def _differ(one: Outcome, other: Outcome) -> bool:
    if isinstance(one, Result) and isinstance(other, Result):
        return bool(differing(numbers(one), numbers(other), rtol=0.0, atol=0.0))
    return one != other


def _seen(info: StepInfo) -> str:
    told = info.answers
    return tree.fingerprint([info.index, told and [told.losses, told.correct, told.scores, told.targets]])
