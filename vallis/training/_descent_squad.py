"""Losses and gradients of trainings that stand at the same place of passes of the same length, in one run."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from vallis.core.types import Batch
from vallis.numerics.program_replay import Replay, can_replay
from vallis.numerics.program_stack import Members, backward, forward
from vallis.numerics.stacked import Stacked
from vallis.training._descent_feed import Fed, Feed, kind_of
from vallis.training._descent_line import slopes_of
from vallis.training._descent_member import Member, Seen, seen_in


def pace(member: Member) -> Hashable:
    """The same for those that a `Squad` can be made of."""
    training, state = member.training, member.state
    size = min(training.batch_size or len(state.data), len(state.data))
    turn = (state.step - state.began) % -(-len(state.data) // size)
    return training.augmentation, kind_of(state.data), len(state.data), size, turn, state.loss


class Squad:
    """Trainings of one pace, whose weights lie side by side.

    Args:
        members: whose `pace` is the same, and stays it because they step together.
        values: ``(K, P')`` their weights.
        slopes: ``(K, P')`` where their gradients are put.
    """

    def __init__(self, members: Sequence[Member], values: torch.Tensor, slopes: torch.Tensor) -> None:
        first = members[0]
        self._members = members
        self._weights = Members(
            tuple(member.line.weights for member in members), first.line.views(values), first.line.views(slopes)
        )
        is_bare = first.training.augmentation == "none" and first.state.loss is first.state.task.loss
        is_fed = is_bare and kind_of(first.state.data) is not None
        self._feed: Feed | None = None
        self._replays: dict[tuple[int, int], Replay | None] = {}  # by where inputs come, and threads
        if is_fed and len(members) > 1:
            self._feed = Feed([member.state for member in members], first.training.batch_size)

    def look(self) -> list[Seen]:
        """What each saw; the gradients lie in the slopes."""
        if self._feed is not None:
            served = self._feed.next()
            return self._together(served, self._replay(served.x))
        batches = [member.training.next_batch(member.state) for member in self._members]
        fed = Fed.of(batches) if len(batches) > 1 else None
        if fed is not None:
            return self._together(fed, None)
        return [_alone(member, batch) for member, batch in zip(self._members, batches, strict=True)]

    def _replay(self, x: Stacked) -> Replay | None:
        """The run for inputs in this memory, which is the feed's; None where it cannot be decided beforehand."""
        key = id(x), torch.get_num_threads()
        if key not in self._replays:
            program = self._members[0].line.program
            fits = can_replay(program, self._weights, x)
            self._replays[key] = Replay(program, self._weights, x) if fits else None
        return self._replays[key]

    def _together(self, fed: Fed, replay: Replay | None) -> list[Seen]:
        state = self._members[0].state
        if state.draws:
            for member in self._members:
                member.line.weights.generator = member.state.chance()
        with torch.no_grad():
            if replay is not None:
                outputs = replay.forward()
                losses, slope = slopes_of(state.loss, outputs, fed.y)
                replay.backward(slope)
            else:
                program = self._members[0].line.program
                outputs, kept = forward(program, self._weights, fed.x)
                losses, slope = slopes_of(state.loss, outputs, fed.y)
                backward(program, self._weights, kept, slope)
            scores = outputs.whole.clone().unbind()  # somebody may keep them
        parts = zip(self._members, losses, fed.index, scores, fed.y.unbind(), strict=True)
        return [seen_in(member.state, loss, index, said, y) for member, loss, index, said, y in parts]


def _alone(member: Member, batch: Batch) -> Seen:
    state = member.state
    value, outputs = member.line.gradients(state.loss, batch, state.chance())
    return seen_in(state, float(value), batch.index, outputs, batch.y)
