"""One of the trainings that step together: its settings and its state."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vallis.core import tree
from vallis.core.answers import Answers
from vallis.core.types import Batch, StepInfo
from vallis.numerics.answers import Outputs
from vallis.training._descent_line import Line
from vallis.training._descent_state import State


class Descent(Protocol):
    """What the settings of gradient descent offer beside `Training`."""

    @property
    def batch_size(self) -> int | None:
        """Examples a step, None for all."""
        ...

    @property
    def augmentation(self) -> str:
        """How examples are changed on their way; "none" for not at all."""
        ...

    def next_batch(self, state: State) -> Batch:
        """The batch of the coming step."""
        ...

    def rate(self, state: State) -> float:
        """The learning rate of the coming step."""
        ...

    def shorten(self, state: State) -> None:
        """Cuts the gradient that the coming step follows, where it is too long."""
        ...

    def moved(self, state: State, seen: Seen) -> StepInfo:
        """What the step saw, once the weights have moved."""
        ...

    def course(self, state: State) -> Hashable:
        """The same for members whose updates will always be alike."""
        ...


@dataclass(frozen=True, eq=False)
class Member:
    """One training: its settings and its state."""

    training: Descent
    state: State

    @property
    def line(self) -> Line:
        """Its program and weights."""
        line = self.state.line
        assert line is not None  # those without one go alone
        return line


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """What a step saw before the weights moved: the mean loss of the batch, which examples, what was said of them."""

    loss: float
    index: torch.Tensor
    answers: Answers


def seen_in(state: State, loss: float, index: torch.Tensor, outputs: Any, y: Any) -> Seen:
    """What a step saw of the task; poison beside it, if any, is left out."""
    if state.poison is not None:
        size = len(index) - state.poison.size
        index, outputs, y = tree.map_tensors(lambda leaf: leaf[:size], (index, outputs, y))
    return Seen(loss, index, Outputs(state.task.loss, outputs, y))
