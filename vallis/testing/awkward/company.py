"""A population trained by `torch.func.vmap`, whose members are ordinary trainings: a second way beside `Companionable`.

Each member has a state of its own, from an `init` of its own: its settings, its data, its random streams. `step_all`
stacks the weights of all states on a leading axis and lets every state keep a view of its row, so that a step of all is
one computation and yet each can be packed, resumed and turned into a `Solution` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.modules.dropout import _DropoutNd

from vallis.core.answers import Told
from vallis.core.errors import ModelError, SettingsError
from vallis.core.own import owned
from vallis.core.rng import Rng
from vallis.core.types import Batch, Net, Packed, Solution, StepInfo, Task

Stack = dict[str, torch.Tensor]


@dataclass(kw_only=True, eq=False)
class Member:
    """The state of one training.

    Attributes:
        weights: by name; rows of `stack` once it has stepped in company.
        speeds: the momentum of each weight, likewise.
        place: its row.
    """

    settings: StackedDescent
    net: Net
    tasks: tuple[Task, ...]
    rng: Rng
    module: torch.nn.Module
    weights: Stack
    speeds: Stack
    step: int = 0
    done: bool = False
    stack: tuple[Stack, Stack] | None = None
    place: int = 0

    def next_batch(self) -> Batch:
        """The same examples in the same order as `GradientDescent` takes them."""
        data, size = self.tasks[0].splits["train"], self.settings.batch_size
        epoch, turn = divmod(self.step, math.ceil(len(data) / size))
        order = torch.randperm(len(data), generator=self.rng.child("order", epoch).torch())
        return data.take(order[turn * size : (turn + 1) * size])


@dataclass(frozen=True, kw_only=True)
class StackedDescent:
    """Gradient descent with momentum on nets without buffers."""

    version: ClassVar[int] = 1

    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 16
    max_steps: int = 100

    def init(
        self,
        net: Net,
        params: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        tasks: tuple[Task, ...],
        rng: Rng,
    ) -> Member:
        """The state before the first step.

        Raises:
            ModelError: the net has buffers or dropout, or the task is not one of classes with tensors as inputs.
        """
        random = any(isinstance(part, _DropoutNd) for part in net.module.modules())
        first = next(iter(tasks[0].splits["train"]))
        classes = tasks[0].loss.kind == "categorical" and isinstance(first.x, torch.Tensor)
        if buffers or random or len(tasks) > 1 or not classes:
            raise ModelError(
                "one task of classes and a net without buffers or dropout were required, other came: train them alone"
            )
        weights = {name: value.detach().clone() for name, value in params.items()}
        speeds = {name: torch.zeros_like(value) for name, value in params.items()}
        module = owned(net.module).train()
        return Member(settings=self, net=net, tasks=tasks, rng=rng, module=module, weights=weights, speeds=speeds)

    def step(self, state: Member) -> StepInfo:
        if state.done:
            return StepInfo(step=state.step, loss=math.nan, done=True, reason="max_steps")
        return self.step_all([state])[0]

    @staticmethod
    def step_all(states: Sequence[Member]) -> list[StepInfo]:
        """A step of each, as one computation; those that are done must have left.

        Raises:
            SettingsError: their nets or their batches differ in shape.
        """
        weights, speeds = _together(states)
        batches = [state.next_batch() for state in states]
        if len({(batch.x.shape, batch.y.shape) for batch in batches}) > 1:
            raise SettingsError("batches of one shape were required to train together: give all one batch_size")
        x, y = (torch.stack([getattr(batch, axis) for batch in batches]) for axis in ("x", "y"))
        module, loss = states[0].module, states[0].tasks[0].loss

        def of_one(weight: Stack, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, Any]:
            outputs = torch.func.functional_call(module, weight, (x,))
            mean = loss.mean(outputs, y)
            return mean, (mean.detach(), loss.per_example(outputs, y)[0].detach(), outputs.detach())

        slopes, (means, losses, outputs) = torch.func.vmap(torch.func.grad(of_one, has_aux=True))(weights, x, y)
        _descend(states, weights, speeds, slopes)
        for state in states:
            state.step += 1
            state.done = state.step >= state.settings.max_steps
        return [
            StepInfo(
                step=state.step,
                loss=float(means[k]),
                index=batches[k].index,
                answers=Told(
                    losses=losses[k],
                    correct=outputs[k].argmax(1) == batches[k].y,
                    scores=outputs[k],
                    targets=batches[k].y,
                ),
                done=state.done,
                reason="max_steps" if state.done else "",
            )
            for k, state in enumerate(states)
        ]

    def solution(self, state: Member) -> Solution:
        params = {name: value.clone() for name, value in state.weights.items()}
        return Solution(net=state.net, params=params, buffers={}, tasks=state.tasks, step=state.step)

    def pack(self, state: Member) -> Packed:
        tensors = {f"weights/{name}": value.clone() for name, value in state.weights.items()}
        tensors |= {f"speeds/{name}": value.clone() for name, value in state.speeds.items()}
        return Packed(tensors=tensors, values={"step": state.step, "done": state.done})

    def unpack(self, packed: Packed, net: Net, tasks: tuple[Task, ...], rng: Rng) -> Member:
        names = [name for name, _ in net.module.named_parameters()]
        state = self.init(net, {name: packed.tensors[f"weights/{name}"] for name in names}, {}, tasks, rng)
        state.speeds = {name: packed.tensors[f"speeds/{name}"].clone() for name in names}
        state.step, state.done = packed.values["step"], packed.values["done"]
        return state


def _together(states: Sequence[Member]) -> tuple[Stack, Stack]:
    """The weights and speeds of all, stacked; it is done anew only when the company has changed."""
    held = states[0].stack
    rows = [state.place for state in states]
    whole = held is not None and rows == list(range(len(next(iter(held[0].values())))))
    if held is not None and whole and all(state.stack is held for state in states):
        return held
    if len({tuple((name, value.shape) for name, value in state.weights.items()) for state in states}) > 1:
        raise SettingsError("nets of one architecture were required to train together: group them by it")
    weights = {name: torch.stack([state.weights[name] for state in states]) for name in states[0].weights}
    speeds = {name: torch.stack([state.speeds[name] for state in states]) for name in states[0].speeds}
    for place, state in enumerate(states):
        state.stack, state.place = (weights, speeds), place
        state.weights = {name: value[place] for name, value in weights.items()}
        state.speeds = {name: value[place] for name, value in speeds.items()}
    return weights, speeds


def _descend(states: Sequence[Member], weights: Stack, speeds: Stack, slopes: Stack) -> None:
    settings = [state.settings for state in states]
    for name, weight in weights.items():
        shape = (-1, *[1] * (weight.ndim - 1))

        def each(values: list[float], like: torch.Tensor = weight, shape: tuple[int, ...] = shape) -> torch.Tensor:
            return torch.tensor(values, dtype=like.dtype).view(shape)

        slope = slopes[name] + each([s.weight_decay for s in settings]) * weight
        speeds[name].mul_(each([s.momentum for s in settings])).add_(slope)
        weight.sub_(each([s.learning_rate for s in settings]) * speeds[name])
