"""Many trainings by gradient descent as one computation: each is what it would be alone, bit for bit.

Members share an architecture and a loss; everything else is their own: weights, data, order, labels, rates, schedule,
optimizer, weight decay, dropout, when they stop. They may be at different steps. One that is done costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vallis.core.losses import CrossEntropy
from vallis.core.poisoned_losses import PoisonedLoss
from vallis.core.types import Batch, StepInfo
from vallis.numerics.program_stack import Members, Stacked, backward, forward
from vallis.training import _optimizers
from vallis.training._descent_line import Line, slopes_of
from vallis.training._descent_state import State


class Descent(Protocol):
    """What the settings of gradient descent offer beside `Training`."""

    def next_batch(self, state: State) -> Batch:
        """The batch of the coming step."""
        ...

    def rate(self, state: State) -> float:
        """The learning rate of the coming step."""
        ...

    def shorten(self, state: State) -> None:
        """Cuts the gradient that the coming step follows, where it is too long."""
        ...

    def moved(self, state: State, batch: Batch, loss: float, outputs: Any) -> StepInfo:
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
        assert line is not None  # `company_of` said so
        return line


def company_of(state: State) -> Hashable | None:
    """What states must have in common to step together; None for one that must go alone."""
    line = state.line
    if line is None or any(type(loss) not in (CrossEntropy, PoisonedLoss) for loss in state.losses):
        return None
    # Kernels choose their ways by the layout, and a stack has only the plain one.
    if not all(_is_plain(task.splits["train"].take(torch.arange(2) % len(state.data)).x) for task in state.tasks):
        return None
    return line.program.signature, line.flat.dtype


class Company:
    """Trainings of one architecture, stepping together until each is done.

    Args:
        members: whose `company_of` is the same, and not None; nobody else may change their states meanwhile.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self._going = tuple(member for member in self.members if not member.state.done)
        self._optimizer: torch.optim.Optimizer | None = None
        self._gather()

    def step(self) -> list[tuple[int, StepInfo]]:
        """One step of each that is not done, by its place among the members."""
        infos: dict[int, StepInfo] = {}
        groups: dict[Hashable, list[tuple[Member, Batch]]] = {}
        for member in self._going:
            batch = member.training.next_batch(member.state)
            groups.setdefault(_kind(member.state, batch), []).append((member, batch))
        seen = [(pair, found) for group in groups.values() for pair, found in zip(group, _look(group), strict=True)]
        self._move([member for (member, _), (loss, _) in seen if math.isfinite(loss)])
        optimizers = [member.state.optimizer for member in self._going]
        for (member, batch), (loss, outputs) in seen:
            infos[id(member)] = member.training.moved(member.state, batch, loss, outputs)
        new_task = any(member.state.optimizer is not old for member, old in zip(self._going, optimizers, strict=True))
        if new_task or any(info.done for info in infos.values()):
            self._part()
        return [(place, infos[id(member)]) for place, member in enumerate(self.members) if id(member) in infos]

    def _gather(self) -> None:
        """Lays the weights of those that go on side by side, and what their optimizers remember of them."""
        if not self._going:
            return
        values, slopes = (torch.zeros(len(self._going), len(self._going[0].line.flat)) for _ in range(2))
        values, slopes = (rows.to(self._going[0].line.flat.dtype) for rows in (values, slopes))
        for member, row, slope in zip(self._going, values, slopes, strict=True):
            member.line.lay_out(row, slope)
        self._optimizer = None
        if len({member.training.course(member.state) for member in self._going}) == 1:
            self._optimizer = _optimizers.joint([member.state.optimizer for member in self._going], values, slopes)

    def _part(self) -> None:
        """Those that are done take their weights along."""
        for member in self._going:
            if member.state.done:
                line = member.line
                line.lay_out(torch.zeros_like(line.flat.data), torch.zeros_like(line.flat.data))
                _optimizers.leave(member.state.optimizer)
        self._going = tuple(member for member in self._going if not member.state.done)
        self._gather()

    def _move(self, members: Sequence[Member]) -> None:
        """The update of those whose loss is finite: in one step of one optimizer where all are treated alike."""
        if not members:
            return
        for member in members:
            member.training.shorten(member.state)
        if self._optimizer is not None and len(members) == len(self._going):
            _optimizers.set_rate(self._optimizer, members[0].training.rate(members[0].state))
            _optimizers.advance(self._optimizer)
            _optimizers.share(self._optimizer, [member.state.optimizer for member in members])
            return
        if self._optimizer is not None:  # from here on each on its own: somebody leaves
            for member in self._going:
                _optimizers.leave(member.state.optimizer)
            self._optimizer = None
        for member in members:
            _optimizers.set_rate(member.state.optimizer, member.training.rate(member.state))
            _optimizers.advance(member.state.optimizer)


def _is_plain(x: torch.Tensor) -> bool:
    return x.stride() == torch.empty(x.shape, device="meta").stride()


def _kind(state: State, batch: Batch) -> Hashable:
    """Batches of one kind are stacked."""
    return batch.x.shape, batch.x.dtype, batch.y.shape, batch.y.dtype, state.loss


def _look(group: Sequence[tuple[Member, Batch]]) -> list[tuple[float, Any]]:
    """The losses and what the networks returned; the gradients lie in the lines."""
    for member, _ in group:
        member.line.weights.generator = member.state.chance()
    weights = Members(tuple(member.line.weights for member, _ in group))
    program, loss = group[0][0].line.program, group[0][0].state.loss
    with torch.no_grad():
        outputs, kept = forward(program, weights, Stacked.of([batch.x for _, batch in group]))
        losses, slope = slopes_of(loss, outputs, [batch.y for _, batch in group])
        backward(program, weights, kept, slope)
    return list(zip(losses, outputs.members, strict=True))
