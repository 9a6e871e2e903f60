"""One tensor for each of K members, side by side in memory or each where it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch

from vallis.numerics.same_bits import ALIGNED

_PIECE = 2**15  # numbers that torch never shares out among threads


class Stacked:
    """One tensor for each of K members.

    Those that were computed one by one stay apart until somebody wants them side by side.

    Attributes:
        shape: of each.
    """

    def __init__(self, shape: Sequence[int], rows: torch.Tensor | None, parts: tuple[torch.Tensor, ...] = ()) -> None:
        self.shape = torch.Size(shape)
        self._rows, self._parts = rows, parts

    @staticmethod
    def empty(num_members: int, shape: Sequence[int], like: torch.Tensor) -> Stacked:
        """Room for K tensors of this shape, of the type and on the device of `like`."""
        size = math.prod(shape)
        rows = like.new_empty(num_members, aligned(size, like.dtype))
        rows[:, size:] = 0  # rubbish there might be slow to compute with
        return Stacked(shape, rows)

    @staticmethod
    def apart(members: Sequence[torch.Tensor]) -> Stacked:
        """These, as they are."""
        return Stacked(members[0].shape, None, tuple(members))

    @staticmethod
    def of_whole(whole: torch.Tensor) -> Stacked:
        """The K tensors that are the first axis of this; a view where that is possible."""
        rows = whole.flatten(1)
        if rows.shape[1] == aligned(rows.shape[1], rows.dtype) and rows.is_contiguous():
            return Stacked(whole.shape[1:], rows)
        room = Stacked.empty(len(whole), whole.shape[1:], whole)
        room.whole.copy_(whole)
        return room

    @property
    def is_apart(self) -> bool:
        """Whether they do not lie side by side, yet."""
        return self._rows is None

    @property
    def is_even(self) -> bool:
        """Whether a function of each number has no last few, of any member, to treat apart from those before them."""
        return is_even(len(self.rows), math.prod(self.shape), self.rows.dtype)

    @property
    def rows(self) -> torch.Tensor:
        """``(K, S)``, S being the number of elements, rounded up so that every row begins aligned.

        What stands in the gap means nothing.
        """
        if self._rows is None:
            room = Stacked.empty(len(self._parts), self.shape, self._parts[0])
            for place, member in zip(room.members, self._parts, strict=True):
                place.copy_(member)
            self._rows = room.rows
        return self._rows

    @cached_property
    def whole(self) -> torch.Tensor:
        """``(K, *shape)``, a view."""
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        return self.rows.as_strided((len(self.rows), *self.shape), (self.rows.stride(0), *strides))

    @cached_property
    def members(self) -> tuple[torch.Tensor, ...]:
        """The K tensors, as views or as they were given."""
        return self._parts or self.whole.unbind()

    def together(self) -> Stacked:
        """The same, side by side."""
        return Stacked(self.shape, self.rows)

    def reshaped(self, *shape: int) -> Stacked:
        """The same numbers in tensors of another shape."""
        if self._rows is None:
            return Stacked.apart([part.reshape(shape) for part in self._parts])
        return Stacked(shape, self._rows)

    def like(self, rows: torch.Tensor) -> Stacked:
        """Other numbers in the same places."""
        return Stacked(self.shape, rows)

    def plus(self, other: Stacked) -> Stacked:
        """Their sums, member by member."""
        if self.is_apart and other.is_apart:
            return Stacked.apart([a + b for a, b in zip(self.members, other.members, strict=True)])
        return self.like(self.rows + other.rows)


def is_even(num_members: int, size: int, dtype: torch.dtype) -> bool:
    """Whether it is so for members of this size."""
    is_one_piece = torch.get_num_threads() == 1 or num_members * aligned(size, dtype) <= _PIECE
    return is_one_piece and aligned(size, dtype) == size


def aligned(size: int, dtype: torch.dtype) -> int:
    """The number of elements, rounded up to where the next tensor may begin."""
    step = ALIGNED // dtype.itemsize
    return -(-size // step) * step
