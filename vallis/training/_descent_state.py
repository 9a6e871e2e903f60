"""The state of gradient descent: a private copy of the network, an optimizer, and where it is in the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from vallis.core.errors import DataError, ModelError
from vallis.core.losses import CrossEntropy, Loss
from vallis.core.own import owned
from vallis.core.rng import Rng
from vallis.core.types import Batch, Data, Net, Task
from vallis.training._descent_line import Line
from vallis.training._poison import Poison

# Exact types: a subclass may do anything.
_CERTAIN = frozenset(
    {
        *(nn.Sequential, nn.Flatten, nn.Identity, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm),
        *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    }
)


@dataclass(kw_only=True, eq=False)
class State:
    """Everything the next step depends on. The last group of fields is computed from the others and never stored.

    Attributes:
        step: how many steps are done, over all tasks.
        place: which task is being learned.
        began: the step at which it began.
        module: a private copy of the network, in train mode.
        params: its trainable parameters, in the order of the module.
        line: its program, where it has one: then the parameters are views of one vector.
        rest: the names of everything else that it needs.
        losses: for each task what is learned; the task's own loss, save where there is poison.
        due: nothing can end before so many steps are done.
        draws: whether a forward pass may draw random numbers.
    """

    net: Net
    tasks: tuple[Task, ...]
    rng: Rng
    step: int = 0
    place: int = 0
    began: int = 0
    done: bool = False
    reason: str = ""

    module: nn.Module
    params: dict[str, nn.Parameter]
    line: Line | None
    rest: tuple[str, ...]
    optimizer: torch.optim.Optimizer
    losses: tuple[Loss, ...]

    order: torch.Tensor | None = None
    whole: Batch | None = None
    poison: Poison | None = None
    due: int = 0
    draws: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def task(self) -> Task:
        """The task that is being learned."""
        return self.tasks[self.place]

    @property
    def loss(self) -> Loss:
        """What is learned of it."""
        return self.losses[self.place]

    @property
    def buffers(self) -> dict[str, torch.Tensor]:
        """Everything that is not trained, as it is now: a forward pass may have put a new tensor in its place."""
        held = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        return {name: value for name, value in held.items() if name in self.rest}

    @property
    def learned(self) -> list[nn.Parameter]:
        """What the optimizer changes: all parameters as one vector, or one by one."""
        return list(self.params.values()) if self.line is None else [self.line.flat]

    @property
    def data(self) -> Data:
        """What it is learned from."""
        return self.task.splits["train"]

    def next_batch(self, batch_size: int | None) -> Batch:
        """The batch of the coming step."""
        part = self.part(batch_size)
        if part is not None:
            return self.data.take(self.order_of(batch_size)[part])
        if self.whole is None:
            self.whole = self.data.take(torch.arange(len(self.data)))
        return self.whole

    def part(self, batch_size: int | None) -> slice | None:
        """Which part of the order the coming step sees; None where it sees all examples, unshuffled."""
        size = len(self.data)
        if batch_size is None or batch_size >= size:
            return None
        start = (self.step - self.began) % math.ceil(size / batch_size) * batch_size
        return slice(start, min(start + batch_size, size))

    def order_of(self, batch_size: int | None) -> torch.Tensor:
        """The order ``(N,)`` of the present epoch e, from the stream "order", e: no generator is kept."""
        size = len(self.data)
        epoch, turn = divmod(self.step - self.began, math.ceil(size / (batch_size or size)))
        if self.order is None or turn == 0:
            stream = self.rng if self.place == 0 else self.rng.child("task", self.place)
            self.order = torch.randperm(size, generator=stream.child("order", epoch).torch())
        return self.order

    def chance(self) -> torch.Generator | None:
        """What the coming step draws its noise from; None where it draws none."""
        return self.rng.child("noise", self.step).torch() if self.draws else None

    def next_task(self, optimizer: torch.optim.Optimizer) -> None:
        """Goes on to the next task, with an optimizer that remembers nothing."""
        self.place += 1
        self.began = self.step
        self.optimizer = optimizer
        self.order = self.whole = self.poison = None
        self.due = 0


def private_copy(
    net: Net, params: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor]
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy of the network at these values, in train mode, and its trainable parameters by name.

    Raises:
        ModelError: a name or a shape does not fit the network.
    """
    module = owned(net.module)
    named = dict(module.named_parameters())
    held: dict[str, torch.Tensor] = {**named, **dict(module.named_buffers())}
    for name, value in (*params.items(), *buffers.items()):
        if name not in held or held[name].shape != value.shape:
            came = tuple(held[name].shape) if name in held else "nothing"
            raise ModelError(
                f"values that fit the network were required, {name} of shape {tuple(value.shape)} came where it has "
                f"{came}: give the network its own weights"
            )
        held[name].data = value.detach().clone()
    for name, parameter in named.items():
        parameter.requires_grad_(name in params)
    return module.train(), {name: parameter for name, parameter in named.items() if name in params}


def may_draw(module: nn.Module) -> bool:
    """Whether a forward pass in train mode may draw random numbers: unless every part is known not to."""

    def is_certain(part: nn.Module) -> bool:
        if part._forward_hooks or part._forward_pre_hooks:
            return False
        return type(part) in _CERTAIN or (isinstance(part, _DropoutNd) and part.p == 0)

    return not all(is_certain(part) for part in module.modules())


_NO_CLASSES = (torch.int8, torch.int16, torch.int32, torch.bool)


def must_be_learnable(net: Net, tasks: tuple[Task, ...]) -> None:
    """Refuses what gradient descent cannot train, before the first step.

    Raises:
        ModelError: the weights are binary.
        DataError: a task has no examples to train on, or classes of a type that torch takes for none.
    """
    if "binary" in net.traits:
        raise ModelError("real weights were required, the net's are binary: train it with a method for binary weights")
    if not tasks:
        raise DataError("at least one task was required, none came: give the problem one")
    for task in tasks:
        if "train" not in task.splits or len(task.splits["train"]) == 0:
            raise DataError(
                f'a split "train" with at least one example was required, task {task.name} has '
                f'{", ".join(task.splits) or "none"}: name what is to be learned "train"'
            )
        # A stream refuses here, not after an hour.
        y = task.splits["train"].take(torch.zeros(1, dtype=torch.int64)).y
        if isinstance(task.loss, CrossEntropy) and isinstance(y, torch.Tensor) and y.dtype in _NO_CLASSES:
            raise DataError(
                f"classes as int64 were required by cross-entropy, task {task.name} has {y.dtype}: let the problem "
                "give y.long()"
            )


def without_gradients(buffers: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Copies, detached, by name."""
    return {name: value.detach().clone() for name, value in buffers.items()}
