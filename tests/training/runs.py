"""Runs a training on a toy, and compares what came out bit for bit."""

from __future__ import annotations

from typing import Any

import torch

from vallis.core import tree
from vallis.core.own import coordinates
from vallis.core.protocols import Model, Problem
from vallis.core.rng import Rng
from vallis.core.types import Net, Solution, StepInfo, Task
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent


def ground(problem: Problem | None = None, model: Model | None = None) -> tuple[Net, tuple[Task, ...]]:
    tasks = (problem or Blobs()).build(Rng(0).child("problem"))
    return (model or TinyMlp()).build(tasks, Rng(0).child("model")), tasks


def begin(training: GradientDescent, net: Net, tasks: tuple[Task, ...], seed: int = 0) -> Any:
    params, buffers = coordinates(net.module)
    return training.init(net, params, buffers, tasks, Rng(seed).child("training"))


def follow(training: GradientDescent, state: Any, steps: int | None = None) -> list[StepInfo]:
    """Steps until done, or so many of them."""
    infos: list[StepInfo] = []
    while len(infos) != steps and not (infos and infos[-1].done):
        infos.append(training.step(state))
    return infos


def run(
    training: GradientDescent, problem: Problem | None = None, model: Model | None = None, seed: int = 0
) -> tuple[Solution, list[StepInfo]]:
    net, tasks = ground(problem, model)
    state = begin(training, net, tasks, seed)
    infos = follow(training, state)
    return training.solution(state), infos


def bits(solution: Solution) -> str:
    """The same for the same names, weights and buffers, in the same order."""
    names = [*solution.params, *solution.buffers]
    return repr(names) + tree.fingerprint([*solution.params.values(), *solution.buffers.values()])


def saw(infos: list[StepInfo]) -> list[Any]:
    """Everything the steps reported, as values that can be compared."""

    def plain(value: torch.Tensor | None) -> Any:
        return None if value is None else value.tolist()

    return [(i.step, i.loss, plain(i.index), plain(i.losses), plain(i.correct), i.done, i.reason) for i in infos]
