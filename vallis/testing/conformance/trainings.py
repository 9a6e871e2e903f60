"""What every training must do: start where it is put, resume bit for bit, end, and touch nothing that it is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from safetensors.torch import load, save

from vallis.core import tree
from vallis.core.errors import UsageError
from vallis.core.own import coordinates
from vallis.core.protocols import Companionable, Model, Problem, Training
from vallis.core.rng import Rng
from vallis.core.spec import name_of
from vallis.core.types import Net, Packed, Solution, StepInfo, Task
from vallis.testing.awkward.binary_perceptron import BinaryPerceptron, SignPatterns
from vallis.testing.awkward.graphs import CyclesAndPaths, GraphNet
from vallis.testing.conformance.parts import Broken, Check, is_quick, require, untouched_surroundings
from vallis.testing.toys.models import LinearModel, TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs, LinearRegression

MOST_STEPS = 2000
_RNG = Rng(0).child("training")
# A training is tried on all of these that it takes, and must take one.
GROUNDS: tuple[tuple[Problem, Model], ...] = (
    (Blobs(), TinyMlp()),
    (Blobs(angles=(0.0, 1.0)), TinyMlp(dropout=0.2)),
    (Bars(), TinyConvnet()),
    (LinearRegression(), LinearModel()),
    (CyclesAndPaths(), GraphNet()),
    (SignPatterns(num_inputs=21), BinaryPerceptron()),
)


def is_a_training(part: Any) -> None:
    """It offers what the protocol asks for, and trains one of the toys."""
    require(isinstance(part, Training), f"{name_of(part)} must have version, init, step, solution, pack and unpack")
    _begun(part)


def starts_where_it_is_put(part: Any) -> None:
    """Before the first step, the solution is the given weights, in the given order, in tensors of its own."""
    for state, net, tasks in _begun(part):
        solution, (params, buffers) = part.solution(state), coordinates(net.module)
        require(solution.step == 0, "a solution before the first step must be of step 0")
        require(solution.tasks == tasks, "a solution must know the tasks")
        same = _bits(solution) == repr([*params, *buffers]) + tree.fingerprint([*params.values(), *buffers.values()])
        require(same, f"{name_of(part)} must start at the given weights and keep their order")


def ends(part: Any) -> None:
    """Steps count up by one, and within a bound training is done, because of something, and stays done."""
    for state, _, _ in _begun(part):
        infos = _followed(part, state)
        require([info.step for info in infos] == list(range(1, len(infos) + 1)), "steps must count up by one")
        require(infos[-1].done, f"{name_of(part)} must be done within {MOST_STEPS} steps in its tiny settings")
        require(infos[-1].reason != "", f"{name_of(part)} must say why it is done")
        solution = part.solution(state)
        require(solution.step == infos[-1].step, "the last solution must be of the last step")
        again = part.step(state)
        require((again.done, again.step) == (True, solution.step), "what is done must stay done")
        require(_bits(part.solution(state)) == _bits(solution), "what is done must not move")


def steps_tell_what_they_saw(part: Any) -> None:
    """Losses and correctness have the shape of the index, and the index names examples of the problem."""
    for state, _, tasks in _begun(part):
        known = torch.cat([batch.index for task in tasks for split in task.splits.values() for batch in split])
        for info in _followed(part, state, 3):
            if info.index is None:
                require(info.answers is None, "answers must go with an index")
                continue
            require(bool(torch.isin(info.index, known).all()), "an index must be one of the problem's")
            for value in (info.losses, info.correct):
                require(value is None or value.shape == info.index.shape, "there must be one value an example")
            scores = None if info.answers is None else info.answers.scores
            if scores is not None:
                require(len(scores) == len(info.index), "there must be one row of scores an example")
                require(not scores.requires_grad, "scores must be without a graph")
            require(info.correct is None or info.correct.dtype == torch.bool, "correct must be bool")


def same_seed_same_bits(part: Any) -> None:
    """Run twice it says and finds the same; nothing global changes, and nothing that it was given."""
    for net, tasks in _suiting(part):
        given = _given(net, tasks)
        ends = []
        for _ in range(2):
            with untouched_surroundings(name_of(part)):
                state = part.init(net, *coordinates(net.module), tasks, _RNG)
                infos = _followed(part, state)
                ends.append((_said(infos), _bits(part.solution(state))))
        require(ends[0] == ends[1], f"{name_of(part)} must do the same for the same stream")
        require(_given(net, tasks) == given, f"{name_of(part)} must leave the net and the data as they are")


def solutions_are_kept(part: Any) -> None:
    """A solution does not move with the training that goes on."""
    for state, _, _ in _begun(part):
        solution = part.solution(state)
        before = _bits(solution)
        _followed(part, state)
        require(_bits(solution) == before, f"{name_of(part)} must give solutions tensors of their own")


def resumes_bit_for_bit(part: Any) -> None:
    """At rest in JSON and safetensors after any of the first steps, it goes on as if nothing had been."""
    for net, tasks in _suiting(part):
        for stop in (0, 1, 3):
            state = part.init(net, *coordinates(net.module), tasks, _RNG)
            _followed(part, state, stop)
            packed = part.pack(state)
            kept = _through_files(packed)
            again = part.unpack(kept, net, tasks, _RNG)
            rest, others = _followed(part, state), _followed(part, again)
            where = f"{name_of(part)}, resumed after step {stop},"
            require(_said(rest) == _said(others), f"{where} must say the same")
            require(_bits(part.solution(state)) == _bits(part.solution(again)), f"{where} must find the same")
            same = tree.fingerprint(dict(kept.tensors)) == tree.fingerprint(dict(_through_files(packed).tensors))
            require(same, f"{where} must leave what was packed as it is")


def company_changes_nothing(part: Any) -> None:
    """Where several can step as one computation, each says and finds what it would have alone."""
    training: Any = part
    if not isinstance(part, Companionable):
        return
    for net, tasks in _suiting(part):
        streams = [_RNG.child("company", number) for number in range(3)]
        alone, beside = (
            [training.init(net, *coordinates(net.module), tasks, rng) for rng in streams] for _ in range(2)
        )
        if part.company(beside[0]) is None:
            continue
        require(len({part.company(state) for state in beside}) == 1, "states of one net must be of one company")
        company = part.together([(part, state) for state in beside])
        said: list[list[Any]] = [[] for _ in streams]
        while steps := company.step():
            for place, info in steps:
                said[place] += _said([info])
        for place, state in enumerate(alone):
            require(
                _said(_followed(part, state)) == said[place], f"{name_of(part)} must say in company what it says alone"
            )
            same = _bits(training.solution(state)) == _bits(training.solution(beside[place]))
            require(same, f"{name_of(part)} must find in company what it finds alone")


def is_quick_enough(part: Any) -> None:
    """The tiny settings train in under a second on each toy."""
    for net, tasks in _suiting(part):

        def act(net: Net = net, tasks: tuple[Task, ...] = tasks) -> None:
            _followed(part, part.init(net, *coordinates(net.module), tasks, _RNG))

        is_quick(name_of(part), act)


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        is_a_training,
        starts_where_it_is_put,
        ends,
        steps_tell_what_they_saw,
        same_seed_same_bits,
        solutions_are_kept,
        resumes_bit_for_bit,
        company_changes_nothing,
        is_quick_enough,
    )
}


@cache
def _grounds() -> tuple[tuple[Net, tuple[Task, ...]], ...]:
    built = []
    for problem, model in GROUNDS:
        tasks = problem.build(Rng(0).child("problem"))
        built.append((model.build(tasks, Rng(0).child("model")), tasks))
    return tuple(built)


def _suiting(part: Any) -> list[tuple[Net, tuple[Task, ...]]]:
    """The toys that a training takes; those it cannot take it refuses in one sentence."""
    return [(net, tasks) for _, net, tasks in _begun(part)]


def _begun(part: Any) -> list[tuple[Any, Net, tuple[Task, ...]]]:
    found = []
    for net, tasks in _grounds():
        try:
            state = part.init(net, *coordinates(net.module), tasks, _RNG)
        except UsageError:
            continue
        found.append((state, net, tasks))
    if not found:
        raise Broken(f"{name_of(part)} must train one of the toys in vallis.testing: add one that it takes")
    return found


def _followed(part: Any, state: Any, steps: int = MOST_STEPS) -> list[StepInfo]:
    infos: list[StepInfo] = []
    while len(infos) < steps and not (infos and infos[-1].done):
        infos.append(part.step(state))
    return infos


def _through_files(packed: Packed) -> Packed:
    tensors = load(save(dict(packed.tensors)))
    # Neither format keeps the order of names, so nothing may depend on it.
    values = json.loads(json.dumps(packed.values, allow_nan=False, sort_keys=True))
    return Packed(tensors=dict(sorted(tensors.items(), reverse=True)), values=values)


def _given(net: Net, tasks: tuple[Task, ...]) -> list[Any]:
    module = net.module
    modes = [part.training for part in module.modules()]
    slopes = [value.grad is None for value in module.parameters()]
    prints = [split.fingerprint() for task in tasks for split in task.splits.values()]
    return [tree.fingerprint(dict(module.state_dict())), modes, slopes, prints]


def _bits(solution: Solution) -> str:
    names = [*solution.params, *solution.buffers]
    return repr(names) + tree.fingerprint([*solution.params.values(), *solution.buffers.values()])


def _said(infos: list[StepInfo]) -> list[Any]:
    tensors = [tree.fingerprint([i.index, i.losses, i.correct]) for i in infos]
    return [(i.step, repr(i.loss), i.done, i.reason, t) for i, t in zip(infos, tensors, strict=True)]
