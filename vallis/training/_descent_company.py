"""Many trainings by gradient descent as one computation: each is what it would be alone, bit for bit.

Members share an architecture and a loss; everything else is their own: weights, data, order, labels, rates, schedule,
optimizer, weight decay, dropout, when they stop. They may be at different steps. One that is done costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence

import torch

from vallis.core.poisoned_losses import PoisonedLoss
from vallis.core.types import StepInfo
from vallis.numerics.program_kernels import Convolution
from vallis.training import _optimizers
from vallis.training._descent_course import Course
from vallis.training._descent_line import entropy_of, is_plain
from vallis.training._descent_member import Member
from vallis.training._descent_squad import Squad, pace
from vallis.training._descent_state import State

# Their activations take much memory, and their kernels gain nothing from more members.
_MOST_CONVOLUTIONAL = 8


def company_of(state: State) -> Hashable | None:
    """What states must have in common to step together; None for one that must go alone."""
    line = state.line
    if line is None or any(entropy_of(loss) is None and type(loss) is not PoisonedLoss for loss in state.losses):
        return None
    # A stack has only the plain layout.
    if not all(is_plain(task.splits["train"].take(torch.arange(2) % len(state.data)).x) for task in state.tasks):
        return None
    return line.program.signature, line.flat.dtype


class Company:
    """Trainings of one architecture, stepping together until each is done.

    Args:
        members: whose `company_of` is the same, and not None; nobody else may change their states meanwhile.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self._gather()

    def step(self) -> list[tuple[int, StepInfo]]:
        """One step of each that is not done, by its place among the members."""
        seen = [found for squad in self._squads for found in squad.look()]
        for part, course in self._courses:
            course.move([math.isfinite(found.loss) for found in seen[part]])
        infos = [
            (place, member.training.moved(member.state, found))
            for (place, member), found in zip(self._going, seen, strict=True)
        ]
        # (A new task begins at the step that was just made.)
        if any(member.state.done or member.state.began == member.state.step for _, member in self._going):
            self._part()
        return sorted(infos, key=_place)

    def _gather(self) -> None:
        """Lays the weights of those that go on side by side, those most alike next to one another."""
        going = [(place, member) for place, member in enumerate(self.members) if not member.state.done]
        paces = [(pace(member), member.training.course(member.state)) for _, member in going]
        first = {key: place for place, key in reversed(list(enumerate(key for pair in paces for key in pair)))}
        order = sorted(range(len(going)), key=lambda place: [first[key] for key in paces[place]])
        self._going = [going[place] for place in order]
        members, paces = [going[place][1] for place in order], [paces[place] for place in order]
        self._squads: list[Squad] = []
        self._courses: list[tuple[slice, Course]] = []
        if not members:
            return
        flat = members[0].line.flat.data
        values, slopes = (flat.new_zeros(len(members), len(flat)) for _ in range(2))
        for member, row, slope in zip(members, values, slopes, strict=True):
            member.line.lay_out(row, slope)
        most = _MOST_CONVOLUTIONAL if members[0].line.program.has(Convolution) else len(members)
        for part in _runs([key for key, _ in paces], most):
            self._squads.append(Squad(members[part], values[part], slopes[part]))
        for part in _runs([key for _, key in paces], len(members)):
            self._courses.append((part, Course(members[part], values[part], slopes[part])))

    def _part(self) -> None:
        """Those that are done take their weights along."""
        for _, member in self._going:
            # Those that go on may find other company, and counters of steps that they shared would count twice.
            _optimizers.leave(member.state.optimizer)
            if member.state.done:
                line = member.line
                line.lay_out(torch.zeros_like(line.flat.data), torch.zeros_like(line.flat.data))
        self._gather()


def _place(pair: tuple[int, StepInfo]) -> int:
    return pair[0]


def _runs(keys: Sequence[Hashable], most: int) -> Iterator[slice]:
    """Where the same key stands several times in a row, and so many times at most."""
    start = 0
    for place in range(1, len(keys) + 1):
        if place == len(keys) or keys[place] != keys[start] or place - start == most:
            yield slice(start, place)
            start = place
