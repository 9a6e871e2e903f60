"""The updates of trainings that are all treated alike: one for all, as long as all make them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vallis.training import _optimizers
from vallis.training._descent_member import Member


class Course:
    """Trainings with the same rule of update and the same rate, at every step to come.

    Args:
        members: whose `course` is the same.
        values: ``(K, P')`` their weights.
        slopes: ``(K, P')`` and gradients.
    """

    def __init__(self, members: Sequence[Member], values: torch.Tensor, slopes: torch.Tensor) -> None:
        self._members = members
        optimizers = [member.state.optimizer for member in members]
        self._joint = _optimizers.joint(optimizers, values, slopes) if len(members) > 1 else None

    @property
    def is_joint(self) -> bool:
        """Whether they share one update."""
        return self._joint is not None

    def move(self, are_finite: Sequence[bool]) -> None:
        """The update of those whose loss is finite."""
        first = self._members[0]
        for member, is_finite in zip(self._members, are_finite, strict=True):
            if is_finite:
                member.training.shorten(member.state)
        if self._joint is not None and all(are_finite):
            _optimizers.set_rate(self._joint, first.training.rate(first.state))
            _optimizers.advance(self._joint)
            _optimizers.share(self._joint, [member.state.optimizer for member in self._members])
            return
        if self._joint is not None:  # from here on each on its own: somebody leaves
            for member in self._members:
                _optimizers.leave(member.state.optimizer)
            self._joint = None
        for member, is_finite in zip(self._members, are_finite, strict=True):
            if is_finite:
                _optimizers.set_rate(member.state.optimizer, member.training.rate(member.state))
                _optimizers.advance(member.state.optimizer)
