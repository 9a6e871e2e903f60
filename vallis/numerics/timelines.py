"""Growing buffers ``(T, N)``: what happened to each of N examples at its own first, second ... T-th time."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vallis.core.errors import DataError


class Timelines:
    """Values of examples in the order in which they came, one column an example.

    Args:
        known: ``(N,)`` the identities, whose columns are in ascending order; None takes them in as they come.
        capacity: for how many entries of an example there is room at first.
        kept: names of float32 values beside "correct" (bool) and "updates" (int32).
        device: where the buffers lie; identities stay with the processor.

    Raises:
        DataError: identities are not distinct.
    """

    def __init__(self, known: torch.Tensor | None, capacity: int, kept: tuple[str, ...], device: torch.device) -> None:
        self.kept, self.device, self.is_open = kept, device, known is None
        if known is not None:
            known = known.cpu().sort().values
            if not len(known) or bool((known[1:] == known[:-1]).any()):
                raise DataError(
                    "distinct identities of at least one example were required, others came: give each its own"
                )
        self._learn(torch.zeros(0, dtype=torch.int64, device="cpu") if known is None else known)
        room = (capacity, max(1, self.num_examples))
        self.seen = torch.zeros(room[1], dtype=torch.int64, device=device)
        self.buffers = {name: torch.zeros(room, dtype=dtype, device=device) for name, dtype in self._types().items()}

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self._rows) if self.is_open else len(self._known)

    @property
    def identities(self) -> torch.Tensor:
        """``(N,)`` int64, one a column."""
        return torch.tensor(list(self._rows), dtype=torch.int64, device="cpu") if self.is_open else self._known

    def append(self, identities: torch.Tensor, values: Mapping[str, torch.Tensor], update: int | None) -> None:
        """One more entry of each identity ``(B,)``; one that comes twice gets two, in their order.

        Args:
            identities: which examples.
            values: ``(B,)`` by name.
            update: goes to "updates"; None where the values hold it.

        Raises:
            DataError: an identity is not known.
        """
        if not len(identities):
            return
        rows = self.rows(identities).to(self.device)
        turns = self.seen.index_select(0, rows)
        # Of a row that is in the batch twice only one place stays in its mark.
        place = torch.arange(len(rows), device=self.device)
        mark = torch.empty(len(self.seen), dtype=torch.int64, device=self.device)
        mark.scatter_(0, rows, place)
        if not torch.equal(mark.index_select(0, rows), place):
            turns = turns + rank_among_equals(rows)
        self._make_room(int(turns.max()) + 1)
        flat = turns * len(self.seen) + rows
        for name, buffer in self.buffers.items():
            if name == "updates" and update is not None:
                buffer.view(-1).scatter_(0, flat, update)
            else:
                buffer.view(-1).scatter_(0, flat, values[name].to(device=self.device, dtype=buffer.dtype))
        # Last: whoever is interrupted before, by Ctrl-C say, has recorded nothing of this batch.
        self.seen.scatter_reduce_(0, rows, turns + 1, "amax")

    def entries(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """All entries as one list, each example's in their order: identities ``(M,)`` and values ``(M,)`` by name."""
        last = int(self.seen.max()) if len(self.seen) else 0
        turns, rows = torch.where(torch.arange(last, device=self.device).unsqueeze(1) < self.seen)
        return self.identities[rows.cpu()], {name: held[turns, rows] for name, held in self.buffers.items()}

    def restore(
        self, identities: torch.Tensor, seen: torch.Tensor, buffers: Mapping[str, torch.Tensor], *, is_open: bool
    ) -> None:
        """Puts these in the place of what is held: what was read here once, unchanged."""
        self.is_open, self.kept = is_open, tuple(name for name in buffers if name not in ("correct", "updates"))
        self._learn(identities)
        self.seen = seen.to(self.device)
        self.buffers = {name: buffers[name].to(self.device) for name in self._types()}

    def rows(self, identities: torch.Tensor) -> torch.Tensor:
        """``(B,)`` the column of each identity.

        Raises:
            DataError: one is not known.
        """
        if self.is_open:
            self._widen(len(self._rows) + len(identities))  # first, so that no row is ever without a column
            rows = [self._rows.setdefault(name, len(self._rows)) for name in identities.tolist()]
            return torch.tensor(rows, dtype=torch.int64, device="cpu")
        if self._first is not None:
            found = identities - self._first
            unknown = (found < 0) | (found >= self.num_examples)
        else:
            found = torch.searchsorted(self._known, identities).clamp(max=self.num_examples - 1)
            unknown = self._known[found] != identities
        if not bool(unknown.any()):
            return found
        raise DataError(
            f"identities of the {self.num_examples} examples that the recorder was made for were required, "
            f"{int(identities[unknown][0])} came: count examples from 0, or give identities="
        )

    def _learn(self, known: torch.Tensor) -> None:
        self._rows: dict[int, int] = {}
        if self.is_open:
            self._rows = {name: row for row, name in enumerate(known.tolist())}
            return
        self._known = known.cpu()
        in_a_row = len(known) > 0 and int(known[-1]) - int(known[0]) + 1 == len(known)
        self._first = int(known[0]) if in_a_row else None

    def _types(self) -> dict[str, torch.dtype]:
        return {"correct": torch.bool, "updates": torch.int32, **dict.fromkeys(self.kept, torch.float32)}

    def _make_room(self, needed: int) -> None:
        capacity = len(self.buffers["correct"])
        if needed <= capacity:
            return
        more = max(needed, 2 * capacity) - capacity
        self.buffers = {
            name: torch.cat([held, held.new_zeros((more, held.shape[1]))]) for name, held in self.buffers.items()
        }

    def _widen(self, needed: int) -> None:
        width = len(self.seen)
        if needed <= width:
            return
        more = max(needed, 2 * width) - width
        self.seen = torch.cat([self.seen, self.seen.new_zeros(more)])
        self.buffers = {
            name: torch.cat([held, held.new_zeros((len(held), more))], dim=1) for name, held in self.buffers.items()
        }


def rank_among_equals(values: torch.Tensor) -> torch.Tensor:
    """``(B,)`` int64: how many equal values stand before each."""
    ordered, order = values.sort(stable=True)
    place = torch.arange(len(values), device=values.device)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    first = torch.cummax(place * starts, 0).values
    return torch.empty_like(place).scatter_(0, order, place - first)
