"""Toy solutions: a toy model on a toy problem, where it starts or after some plain gradient descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from vallis.core.functional import call
from vallis.core.own import coordinates
from vallis.core.protocols import Model, Problem
from vallis.core.rng import Rng
from vallis.core.types import Net, Solution, Task


def start(problem: Problem, model: Model, rng: Rng) -> Solution:
    """The model on the problem as it is built, before any training."""
    tasks = problem.build(rng.child("problem"))
    net = model.build(tasks, rng.child("model"))
    params, buffers = coordinates(net.module)
    return Solution(net=net, params=params, buffers=buffers, tasks=tasks)


def path(
    problem: Problem, model: Model, rng: Rng, at: Sequence[int] = (0, 10, 40), rate: float = 0.3
) -> tuple[Solution, ...]:
    """Solutions at these steps (rising) of full-batch gradient descent in eval mode; whole batches only."""
    here = start(problem, model, rng)
    params, kept = dict(here.params), []
    for step in range(at[-1] + 1):
        if step in at:
            kept.append(_moved(here, {name: value.clone() for name, value in params.items()}, step))
        slope = _slope(here.net, params, here.buffers, here.task)
        params = {name: value - rate * slope[name] for name, value in params.items()}
    return tuple(kept)


def trained(problem: Problem, model: Model, rng: Rng, steps: int = 40, rate: float = 0.3) -> Solution:
    """The end of such a path."""
    return path(problem, model, rng, (steps,), rate)[0]


def _slope(
    net: Net, params: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor], task: Task
) -> dict[str, torch.Tensor]:
    (batch,) = task.splits["train"]
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        loss = task.loss.mean(call(net.module, leaves, buffers, batch.x), batch.y)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def _moved(solution: Solution, params: Mapping[str, torch.Tensor], step: int) -> Solution:
    return Solution(net=solution.net, params=params, buffers=solution.buffers, tasks=solution.tasks, step=step)
