"""Toy models: a linear one, a perceptron of some 60 parameters, a convolutional net with everything awkward in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import nn

from vallis.core.capture import layers_of, traits_of
from vallis.core.errors import ModelError
from vallis.core.functional import preserving_global_state
from vallis.core.rng import Rng
from vallis.core.types import Net, Task


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """``w . x`` without a bias, starting at zero, in the floating type of the inputs."""

    version: ClassVar[int] = 1

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        x = inputs(tasks, 2)
        with preserving_global_state():  # what a layer draws when it is made is thrown away, but drawn
            module = nn.Linear(x.shape[1], num_outputs(tasks), bias=False, dtype=x.dtype)
        nn.init.zeros_(module.weight)
        return as_net(module)


@dataclass(frozen=True, kw_only=True)
class TinyMlp:
    """A perceptron with hidden layers; with two inputs and three classes it has 61 parameters."""

    version: ClassVar[int] = 1

    widths: tuple[int, ...] = (6, 4)
    activation: Literal["tanh", "relu"] = "tanh"
    dropout: float = 0.0
    double: bool = False

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        num_inputs = inputs(tasks)[0].numel()
        with preserving_global_state():
            torch.default_generator.manual_seed(rng.child("weights").seed)
            module = nn.Sequential(nn.Flatten(), *self._layers(num_inputs, num_outputs(tasks)))
        return as_net(module.double() if self.double else module)

    def _layers(self, num_inputs: int, num_classes: int) -> Iterator[nn.Module]:
        for before, after in pairwise((num_inputs, *self.widths)):
            yield nn.Linear(before, after)
            yield nn.Tanh() if self.activation == "tanh" else nn.ReLU()
            if self.dropout:
                yield nn.Dropout(self.dropout)
        yield nn.Linear(self.widths[-1], num_classes)


@dataclass(frozen=True, kw_only=True)
class TinyConvnet:
    """Convolutions, batch normalisation and dropout, for pictures of any size."""

    version: ClassVar[int] = 1

    width: int = 4
    dropout: float = 0.2
    normalised: bool = True
    double: bool = False

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        channels = inputs(tasks, 4).shape[1]
        with preserving_global_state():
            torch.default_generator.manual_seed(rng.child("weights").seed)
            module = nn.Sequential(
                nn.Conv2d(channels, self.width, 3, padding=1),
                nn.BatchNorm2d(self.width) if self.normalised else nn.Identity(),
                nn.ReLU(),
                nn.Conv2d(self.width, self.width, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Dropout(self.dropout),
                nn.Linear(4 * self.width, num_outputs(tasks)),
            )
        return as_net(module.double() if self.double else module)


def as_net(module: nn.Module) -> Net:
    """The module in eval mode, with what can be told of it."""
    module.eval()
    return Net(module=module, layers=layers_of(module), traits=traits_of(module))


def inputs(tasks: tuple[Task, ...], num_axes: int | None = None) -> torch.Tensor:
    """The inputs of the first batch of the first task.

    Raises:
        ModelError: they are no tensor, or not one of so many axes.
    """
    x = next(iter(tasks[0].splits["train"])).x
    if not isinstance(x, torch.Tensor) or num_axes not in (None, x.ndim):
        came = f"shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else f"a {type(x).__name__}"
        raise ModelError(
            f"inputs in one tensor of {num_axes or 'some'} axes were required, {came} came: use another model"
        )
    return x


def num_outputs(tasks: tuple[Task, ...]) -> int:
    """How many outputs the loss of the tasks asks for."""
    kind, y = tasks[0].loss.kind, next(iter(tasks[0].splits["train"])).y
    if kind == "categorical":
        return 1 + max(int(batch.y.max()) for task in tasks for split in task.splits.values() for batch in split)
    return 1 if kind == "binary" else int(y.shape[1])
