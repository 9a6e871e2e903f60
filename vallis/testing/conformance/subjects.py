"""What measurements are tried on: toy solutions of every kind of net, paths and pairs of them, a watched training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from vallis.core import tree
from vallis.core.answers import Told
from vallis.core.data import Arrays
from vallis.core.functional import call
from vallis.core.protocols import PATHS, Model, Problem
from vallis.core.rng import Rng
from vallis.core.types import Solution, StepInfo
from vallis.testing.awkward.binary_perceptron import BinaryPerceptron, SignPatterns
from vallis.testing.symmetries import SYMMETRIES
from vallis.testing.toys.models import LinearModel, TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs, LinearRegression
from vallis.testing.toys.solutions import path, start

_STEPS = (0, 10, 40)
_BLOBS, _BARS = Blobs(num_classes=3, double=True), Bars(double=True)
# In float64 wherever two numbers are compared; "wide" has too many parameters for anything dense and exact.
GROUNDS: Mapping[str, tuple[Problem, Model]] = {
    "tanh": (_BLOBS, TinyMlp(double=True)),
    "relu": (_BLOBS, TinyMlp(activation="relu", double=True)),
    "wide": (_BLOBS, TinyMlp(widths=(24, 12), activation="relu", double=True)),
    "convolutions": (_BARS, TinyConvnet(normalised=False, dropout=0.0, double=True)),
    "normalised": (_BARS, TinyConvnet(double=True)),
    "regression": (LinearRegression(), LinearModel()),
}


@cache
def subjects(takes: str) -> Mapping[str, Any]:
    """Toys of what a measurement takes, by name.

    Args:
        takes: "solution", "trajectory", "path_and_others" or "pair", as in `Measurement.takes`.
    """
    paths = {name: path(problem, model, Rng(0), _STEPS) for name, (problem, model) in GROUNDS.items()}
    binary = start(SignPatterns(num_inputs=21), BinaryPerceptron(), Rng(0))
    if takes in PATHS:
        return {**paths, "binary": (binary,)}
    if takes == "pair":
        return {name: (found[0], found[-1]) for name, found in paths.items()}
    return {**{name: found[-1] for name, found in paths.items()}, "binary": binary}


@cache
def companies() -> Mapping[str, tuple[Solution, ...]]:
    """Several solutions of each toy: trainings of other seeds, and one of them from its start."""
    found = {}
    for name, (problem, model) in GROUNDS.items():
        paths = [path(problem, model, Rng(seed), _STEPS) for seed in range(3)]
        found[name] = (*(each[-1] for each in paths), paths[0][0])
    return found


def solutions(subject: Any) -> Sequence[Solution]:
    """The solutions in a subject."""
    return [subject] if isinstance(subject, Solution) else list(subject)


def fits(needs: frozenset[str], subject: Any) -> bool:
    """Whether all solutions in the subject have these traits."""
    return all(needs <= solution.net.traits for solution in solutions(subject))


def changed(name: str, takes: str, subject: Any) -> Any | None:
    """The subject under a symmetry, None where it has none; of a pair only the second moves."""
    symmetry, rng = SYMMETRIES[name], Rng(1).child("symmetry")
    found = [symmetry(solution, rng) for solution in solutions(subject)]
    if any(solution is None for solution in found):
        return None
    if takes == "solution":
        return found[0]
    return (subject[0], found[1]) if takes == "pair" else tuple(found)


def in_other_batches(subject: Any, batch_size: int) -> Any:
    """The subject on the same examples in batches of another size, the last of them ragged."""
    found = []
    for solution in solutions(subject):
        tasks = []
        for task in solution.tasks:
            held = {name: split for name, split in task.splits.items() if isinstance(split, Arrays)}
            cut = {name: split.in_batches_of(batch_size) for name, split in held.items()}
            tasks.append(replace(task, splits={**task.splits, **cut}))
        found.append(replace(solution, tasks=tuple(tasks)))
    return found[0] if isinstance(subject, Solution) else tuple(found)


def after_another_stage(path: Sequence[Solution]) -> Sequence[Solution]:
    """The path as the second stage of a training, with a snapshot of the first before it: of another network."""
    elsewhere = {name: 1.5 * value + 0.25 for name, value in path[0].params.items()}
    before = replace(path[-1], params=elsewhere, step=1, stage="first")
    return (before, *(replace(each, step=each.step + 2, stage="second") for each in path))


def everything(subject: Any) -> list[Any]:
    """All of the subject that a measurement could change: weights, the module and its modes, the data."""
    seen: list[Any] = []
    for solution in solutions(subject):
        module = solution.net.module
        held = [*solution.params.values(), *solution.buffers.values(), *module.parameters(), *module.buffers()]
        seen.append(tree.fingerprint([value.detach() for value in held]))
        seen.append([(value.requires_grad, value.grad is None) for value in held])
        seen.append([(part.training, len(part._forward_hooks), sorted(vars(part))) for part in module.modules()])
        seen.append([split.fingerprint() for task in solution.tasks for split in task.splits.values()])
    return seen


@cache
def watched() -> tuple[Solution, tuple[StepInfo, ...]]:
    """Where a short training began, and what its steps saw, the whole train split each."""
    problem, model = GROUNDS["tanh"]
    walked = path(problem, model, Rng(0), tuple(range(12)), rate=1.5)
    (batch,) = walked[0].task.splits["train"]
    infos = []
    for solution in walked:
        with torch.no_grad():
            outputs = call(solution.net.module, solution.params, solution.buffers, batch.x)
            losses = solution.task.loss.per_example(outputs, batch.y)[0]
        last = solution is walked[-1]
        infos.append(
            StepInfo(
                step=solution.step + 1,
                loss=float(losses.mean()),
                index=batch.index,
                answers=Told(losses=losses, correct=outputs.argmax(1) == batch.y, scores=outputs, targets=batch.y),
                done=last,
                reason="max_steps" if last else "",
            )
        )
    return walked[0], tuple(infos)
