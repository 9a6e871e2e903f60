"""Splits of data: examples held in memory, a list of objects, or a stream that is too large to hold.

Whatever it is, two passes see the same examples in the same order. A stream proves it at every pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vallis.core import tree
from vallis.core.errors import DataChanged, DataError
from vallis.core.rng import Rng
from vallis.core.types import Batch, Data


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays:
    """Examples in memory: trees of tensors ``(N, ...)``, or lists of N objects, with their identities.

    Attributes:
        batch_size: how many examples a batch of a pass holds; the last holds the rest.
    """

    x: Any
    y: Any
    index: torch.Tensor
    batch_size: int = 1024

    def __post_init__(self) -> None:
        for what, held in (("inputs", self.x), ("targets", self.y)):
            if tree.length(held) != len(self.index):
                raise DataError(
                    f"{len(self.index)} {what} were required, {tree.length(held)} came: "
                    "give inputs and targets one row an example"
                )

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def __iter__(self) -> Iterator[Batch]:
        if not tree.are_objects(self.x):  # slices are views: a pass copies nothing
            for start in range(0, len(self), self.batch_size):
                part = slice(start, start + self.batch_size)
                yield Batch(x=_cut(self.x, part), y=_cut(self.y, part), index=self.index[part])
            return
        for positions in torch.arange(len(self), device="cpu").split(self.batch_size):
            yield self.take(positions)

    def take(self, positions: torch.Tensor) -> Batch:
        """The examples at these positions ``(B,)``."""
        return Batch(x=tree.take(self.x, positions), y=tree.take(self.y, positions), index=self.index[positions])

    def fingerprint(self) -> str:
        """SHA-256 of inputs, targets and identities."""
        return _fingerprint(self.x, self.y, self.index)

    def in_batches_of(self, batch_size: int) -> Arrays:
        """The same examples in batches of another size."""
        return replace(self, batch_size=batch_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """Examples in memory in the batches in which they came: a user's loader, kept as it was read.

    Attributes:
        kept: the batches, in order; they need not be of one size, nor of one length of sequence.
    """

    kept: tuple[Batch, ...]

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.kept)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.kept)

    def take(self, positions: torch.Tensor) -> Batch:
        """The examples at these positions ``(B,)``; their tensors must be of one shape."""
        starts = torch.tensor([0, *(len(batch) for batch in self.kept)], device="cpu").cumsum(0)
        of = torch.bucketize(positions, starts[1:], right=True)
        rows = [_row(self.kept[int(b)], int(p - starts[b])) for b, p in zip(of, positions, strict=True)]
        return Batch(
            x=_joined([r.x for r in rows]), y=_joined([r.y for r in rows]), index=torch.cat([r.index for r in rows])
        )

    def fingerprint(self) -> str:
        """SHA-256 of all batches, in order."""
        parts = [_fingerprint(batch.x, batch.y, batch.index) for batch in self.kept]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


class Stream:
    """Examples that are read anew at every pass, each pass checked against the first.

    Args:
        read: gives a fresh iterator of ``(x, y)`` at every call.
        first_index: the identity of the first example.
        seen: what the first pass saw, where there was one.

    Raises:
        DataChanged: (while iterating) a pass saw other examples than the first one did.
    """

    def __init__(
        self, read: Callable[[], Iterable[tuple[Any, Any]]], first_index: int = 0, seen: Tally | None = None
    ) -> None:
        self._read = read
        self._first_index = first_index
        self._seen = seen or summarise(read())
        if self._seen.num_examples == 0:
            raise DataError("a split with at least one example was required, an empty one came: give it data")

    def __len__(self) -> int:
        return self._seen.num_examples

    def __iter__(self) -> Iterator[Batch]:
        tally = Tally()
        for x, y in self._read():
            size = tally.add(x, y)
            start = self._first_index + tally.num_examples - size
            yield Batch(x=x, y=y, index=torch.arange(start, start + size, device="cpu"))
        tally.must_equal(self._seen)

    def take(self, positions: torch.Tensor) -> Batch:
        """Not for streams.

        Raises:
            DataError: always: a stream has no random access.
        """
        raise DataError("data with random access was required, a stream came: give tensors or a Dataset instead")

    def fingerprint(self) -> str:
        """A hash of the content that does not depend on the order."""
        return hashlib.sha256(repr((self._seen.num_examples, self._seen.total & _MASK)).encode()).hexdigest()


class Tally:
    """Counts and hashes examples as they pass; the hash does not depend on their order or their batches."""

    def __init__(self) -> None:
        self.num_examples = 0
        self.total = 0

    def add(self, x: Any, y: Any) -> int:
        """Takes one batch in and returns its size."""
        size = next((found for found in (tree.length(y), tree.length(x)) if found is not None), 1)
        hashes_x, hashes_y = tree.example_hashes(x, size), tree.example_hashes(y, size)
        if hashes_x is None or hashes_y is None:
            self.total += int(_fingerprint(x, y, None)[:15], 16)
        else:
            hashes = hashes_x * 1_000_003 + hashes_y
            # Mixed before they are summed, so that two changes cannot cancel.
            self.total += int((hashes ^ (hashes >> 29)).mul(-7046029254386353131).sum())
        self.num_examples += size
        return size

    def must_equal(self, first: Tally) -> None:
        """Compares a finished pass with the first.

        Raises:
            DataChanged: they did not see the same examples.
        """
        if (self.num_examples, self.total & _MASK) != (first.num_examples, first.total & _MASK):
            raise DataChanged(
                f"the same examples at every pass were required, but two passes over the data differ "
                f"({first.num_examples} and {self.num_examples} examples, other content): switch off random "
                "augmentation, sampling and drop_last in the loader, and shuffling where it pads its batches"
            )


_MASK = 2**64 - 1


def summarise(batches: Iterable[tuple[Any, Any]]) -> Tally:
    """One pass over ``(x, y)`` batches, counted and hashed."""
    tally = Tally()
    for x, y in batches:
        tally.add(x, y)
    return tally


def subset(data: Data, num_examples: int, rng: Rng) -> Data:
    """At least this many examples chosen at random, in the order in which they lie; all when there are no more.

    Of data that come in batches whole batches are chosen, and of a stream those at its beginning.
    """
    if num_examples >= len(data):
        return data
    if isinstance(data, Arrays):
        positions = torch.randperm(len(data), generator=rng.torch(), device="cpu")[:num_examples].sort().values
        chosen = data.take(positions)
        return replace(data, x=chosen.x, y=chosen.y, index=chosen.index)
    batches = list(data.kept) if isinstance(data, Batches) else _beginning(data, num_examples)
    order = torch.randperm(len(batches), generator=rng.torch(), device="cpu").tolist()
    kept: list[int] = []
    while order and sum(len(batches[place]) for place in kept) < num_examples:
        kept.append(order.pop())
    return Batches(kept=tuple(batches[place] for place in sorted(kept)))


def chosen(data: Data, marks: torch.Tensor) -> Data | None:
    """The marked examples ``(N,)`` in the batches in which they come; None of a stream, which cannot be held."""
    if isinstance(data, Arrays):
        found = data.take(marks.nonzero().reshape(-1))
        return replace(data, x=found.x, y=found.y, index=found.index)
    if not isinstance(data, Batches):
        return None
    parts = marks.split([len(batch) for batch in data.kept])
    kept = [(batch, part.nonzero().reshape(-1)) for batch, part in zip(data.kept, parts, strict=True)]
    taken = [
        Batch(x=tree.take(batch.x, rows), y=tree.take(batch.y, rows), index=batch.index[rows])
        for batch, rows in kept
        if len(rows)
    ]
    return Batches(kept=tuple(taken))


def _beginning(data: Data, num_examples: int) -> list[Batch]:
    found: list[Batch] = []
    for batch in data:
        found.append(batch)
        if sum(len(seen) for seen in found) >= num_examples:
            break
    return found


def _cut(held: Any, part: slice) -> Any:
    if tree.are_objects(held):
        return held[part]
    return tree.map_tensors(lambda leaf: leaf[part], held)


def _row(batch: Batch, place: int) -> Batch:
    part = slice(place, place + 1)
    return Batch(x=_cut(batch.x, part), y=_cut(batch.y, part), index=batch.index[part])


def _joined(rows: Sequence[Any]) -> Any:
    if tree.are_objects(rows[0]):
        return [item for row in rows for item in row]
    leaves = [tree.tensors(row) for row in rows]
    joined = iter([torch.cat(column) for column in zip(*leaves, strict=True)])
    return tree.map_tensors(lambda _: next(joined), rows[0])


def _fingerprint(x: Any, y: Any, index: torch.Tensor | None) -> str:
    held = [[tree.contents(item) for item in part] if tree.are_objects(part) else part for part in (x, y)]
    return tree.fingerprint((*held, index))
