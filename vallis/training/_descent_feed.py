"""The batches of trainings that stand at the same place of passes of the same length, taken in one call.

Their data, labels and orders are their own. Inputs that are one tensor for all are read with one call.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from vallis.core.data import Arrays
from vallis.core.types import Batch, Data
from vallis.numerics.stacked import Stacked
from vallis.training._descent_state import State


@dataclass(frozen=True, eq=False)
class Fed:
    """The batches of one step.

    Attributes:
        y: ``(K, B, ...)``.
        index: of each, ``(B,)``.
    """

    x: Stacked
    y: torch.Tensor
    index: Sequence[torch.Tensor]

    @staticmethod
    def of(batches: Sequence[Batch]) -> Fed | None:
        """These batches; None where they are not of one shape."""
        kinds = {(batch.x.shape, batch.x.dtype, batch.y.shape, batch.y.dtype) for batch in batches}
        if len(kinds) > 1:
            return None
        y = torch.stack([batch.y for batch in batches])
        return Fed(Stacked.apart([batch.x for batch in batches]), y, [batch.index for batch in batches])


def kind_of(data: Data) -> Hashable | None:
    """What data must have in common to be read together; None where examples cannot be read by `Feed` at all."""
    if type(data) is not Arrays or not (_is_whole(data.x) and _is_whole(data.y)):
        return None
    return data.x.shape[1:], data.x.dtype, data.y.shape[1:], data.y.dtype


class Feed:
    """Serves trainings as long as they step together.

    Args:
        states: at the same place of passes of the same length, their data of one kind.
        batch_size: None for all examples, unshuffled.
    """

    def __init__(self, states: Sequence[State], batch_size: int | None) -> None:
        self._states, self._size = states, batch_size
        data = [state.data for state in states if isinstance(state.data, Arrays)]
        self._x = [part.x for part in data]
        self._y = torch.cat([part.y for part in data])
        self._index = torch.cat([part.index for part in data])
        self._begins = torch.arange(len(data)).mul_(len(data[0])).unsqueeze(1)
        self._is_one = len({part.data_ptr() for part in self._x}) == 1
        self._orders: torch.Tensor | None = None
        self._whole: Fed | None = None
        self._room: dict[int, Stacked] = {}

    def next(self) -> Fed:
        """The batches of the coming step."""
        first = self._states[0]
        part = first.part(self._size)
        if part is None:
            self._whole = self._whole or self._all()
            return self._whole
        if self._orders is None or part.start == 0:
            self._orders = torch.stack([state.order_of(self._size) for state in self._states])
        positions = self._orders[:, part]
        places = (positions + self._begins).reshape(-1)
        y = self._y.index_select(0, places).view(*positions.shape, *self._y.shape[1:])
        index = self._index.index_select(0, places).view(positions.shape).unbind()
        return Fed(self._inputs(positions), y, index)

    def _inputs(self, positions: torch.Tensor) -> Stacked:
        num_members, size = positions.shape
        if size not in self._room:  # the memory of the step before serves again
            self._room[size] = Stacked.empty(num_members, (size, *self._x[0].shape[1:]), self._x[0])
        found = self._room[size]
        if self._is_one and found.whole.is_contiguous():
            torch.index_select(self._x[0], 0, positions.reshape(-1), out=found.whole.flatten(0, 1))
        else:
            for x, own, place in zip(self._x, positions, found.members, strict=True):
                torch.index_select(x, 0, own, out=place)
        return found

    def _all(self) -> Fed:
        """Every example of each; inputs that are one tensor for all lie in memory once."""
        shape, num_members = self._x[0].shape, len(self._x)
        if self._is_one:
            rows = Stacked.empty(1, shape, self._x[0])
            rows.whole.copy_(self._x[0].unsqueeze(0))
            x = Stacked(shape, rows.rows.expand(num_members, -1))
        else:
            x = Stacked.apart(self._x).together()
        return Fed(x, self._y.unflatten(0, (num_members, -1)), self._index.view(num_members, -1).unbind())


def _is_whole(held: object) -> bool:
    return isinstance(held, torch.Tensor) and held.is_contiguous() and held.device.type == "cpu"
