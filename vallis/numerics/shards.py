"""Cuts data into the shares of processes: each example in exactly one of them, however unevenly that falls."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from vallis.core.data import Arrays, Batches, Stream
from vallis.core.errors import DataError, UsageError
from vallis.core.objective import Objective
from vallis.core.types import Batch, Data, Solution

# So many examples stand for all of a dataset when processes compare theirs.
_PROBES = 32
Held = TypeVar("Held", Objective, Solution, Data, "DataLoader[Any]")


def shard(held: Held, rank: int, world_size: int) -> Held:
    """The share of one process.

    Examples in memory are cut into runs of equal length, up to one; batches that are kept, or read from a stream, are
    dealt out in turn, so that no batch is cut. The identity of an example (`Batch.index`) stays.

    A DataLoader becomes one over this process's examples, each of them once. That holds for a `DistributedSampler`
    too, which repeats examples to give all processes as many, or drops some: here neither is done.

    Args:
        held: a loss surface, a solution (all its splits), a split, or a DataLoader.
        rank: which process, 0..world_size-1.
        world_size: how many there are.

    Raises:
        UsageError: there is no such rank, or nothing that can be cut.
        DataError: a DataLoader chooses examples in a way of its own, shuffles and drops some, or is made for another
            rank, or none comes to this process.
    """
    if not 0 <= rank < world_size:
        raise UsageError(f"a rank in 0..{world_size - 1} was required, {rank} of {world_size} came: count from zero")
    cut: Any = _cut(held, rank, world_size)
    return cut  # type: ignore[no-any-return]


def loader_of(loader: DataLoader[Any], rank: int, world_size: int) -> tuple[DataLoader[Any] | None, torch.Tensor]:
    """A DataLoader over the share of a process, None where that is empty, and which examples these are ``(n,)``.

    Raises:
        DataError: it chooses examples in a way of its own, shuffles and drops some, or is made for another rank.
    """
    places = _places(loader, rank, world_size)
    index = torch.tensor(places, dtype=torch.int64)
    if not places:
        return None, index
    return _over(loader, places), index


def probes_of(loader: DataLoader[Any]) -> DataLoader[Any] | list[Any]:
    """A DataLoader over a few examples of its dataset, the first, the last and some between them."""
    size = len(loader.dataset)  # type: ignore[arg-type]
    places = torch.linspace(0, size - 1, min(size, _PROBES), dtype=torch.float64).round().long().tolist()
    # One by one: neither do examples of several lengths lie in one batch, nor does a process's batch size matter.
    return _over(loader, places, batch_size=1) if places else []


def order_of(loader: DataLoader[Any]) -> tuple[str, str, str]:
    """What processes must agree on when each takes its share by the loader's DistributedSampler, in words.

    Returns:
        What it is, how it is here (empty without such a sampler), and what to do where that differs.
    """
    sampler = loader.sampler if loader.batch_size is not None else None
    advice = "give it the same settings on all of them, and call set_epoch with the same number"
    if not isinstance(sampler, DistributedSampler):
        return "order of the DistributedSampler", "", advice
    told = f"shuffle={sampler.shuffle}, seed={sampler.seed}, epoch={sampler.epoch}"
    return "order of the DistributedSampler", told, advice


class Numbered:
    """The same batches, with the identities of examples given in the order of a pass.

    Args:
        data: the batches.
        index: ``(N,)`` the identities.
    """

    def __init__(self, data: Data, index: torch.Tensor) -> None:
        if len(index) != len(data):
            raise UsageError(f"{len(data)} identities were required, {len(index)} came: one an example")
        self._data = data
        self._index = index

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Batch]:
        start = 0
        for batch in self._data:
            yield replace(batch, index=self._index[start : start + len(batch)])
            start += len(batch)

    def take(self, positions: torch.Tensor) -> Batch:
        """The examples at these positions ``(B,)``."""
        return replace(self._data.take(positions), index=self._index[positions])

    def fingerprint(self) -> str:
        """That of the batches: identities are no content."""
        return self._data.fingerprint()


class Dealt:
    """Every n-th batch of data that are read anew at every pass; each process reads all of them and keeps its own.

    Args:
        data: the batches.
        rank: which process.
        world_size: n.
    """

    def __init__(self, data: Data, rank: int, world_size: int) -> None:
        self._data, self._rank, self._world_size = data, rank, world_size
        self._size: int | None = None

    def __len__(self) -> int:
        if self._size is None:
            self._size = sum(len(batch) for batch in self)
        return self._size

    def __iter__(self) -> Iterator[Batch]:
        for place, batch in enumerate(self._data):
            if place % self._world_size == self._rank:
                yield batch

    def take(self, positions: torch.Tensor) -> Batch:
        """Not for streams.

        Raises:
            DataError: always: a stream has no random access.
        """
        raise DataError("data with random access was required, a stream came: give tensors or a Dataset instead")

    def fingerprint(self) -> str:
        """That of all batches, and which of them these are."""
        return f"{self._data.fingerprint()}:{self._rank}/{self._world_size}"


def _over(loader: DataLoader[Any], places: list[int], batch_size: int | None = None) -> DataLoader[Any]:
    """A DataLoader with the settings of another over some examples of its dataset."""
    options = {name: getattr(loader, name) for name in ("num_workers", "collate_fn", "worker_init_fn", "timeout")}
    batches = BatchSampler(places, batch_size or loader.batch_size or 1, drop_last=False)
    return DataLoader(loader.dataset, batch_sampler=batches, generator=loader.generator, **options)


def _cut(held: Any, rank: int, world_size: int) -> Any:
    if isinstance(held, Objective):
        return held.over(_part(held.data, rank, world_size))
    if isinstance(held, Solution):
        tasks = [
            replace(task, splits={name: _part(data, rank, world_size) for name, data in task.splits.items()})
            for task in held.tasks
        ]
        return replace(held, tasks=tuple(tasks))
    if not isinstance(held, DataLoader):
        return _part(held, rank, world_size)
    loader, _ = loader_of(held, rank, world_size)
    if loader is None:
        raise DataError(
            f"at least one example a process was required, fewer than {world_size} came: "
            "use DataParallel.of, which lets processes be idle"
        )
    return loader


def _part(data: Data, rank: int, world_size: int) -> Data:
    if isinstance(data, Arrays):
        found = data.take(torch.arange(len(data), device="cpu").tensor_split(world_size)[rank])
        return replace(data, x=found.x, y=found.y, index=found.index)
    if isinstance(data, Batches):
        return Batches(kept=data.kept[rank::world_size])
    if isinstance(data, (Stream, Numbered, Dealt)):
        return Dealt(data, rank, world_size)
    raise UsageError(
        f"a solution, a loss surface, a split or a DataLoader was required, a {type(data).__name__} came: "
        "make a solution of it first"
    )


def _places(loader: DataLoader[Any], rank: int, world_size: int) -> list[int]:
    """Which examples of its dataset are a process's, in the order in which the loader takes them."""
    sampler = loader.sampler if loader.batch_size is not None else None
    is_stream = isinstance(loader.dataset, IterableDataset)
    size = 0 if is_stream else len(loader.dataset)  # type: ignore[arg-type]
    if isinstance(sampler, DistributedSampler):
        if (sampler.rank, sampler.num_replicas) != (rank, world_size):
            raise DataError(
                f"a DistributedSampler of rank {rank} of {world_size} was required, one of rank {sampler.rank} of "
                f"{sampler.num_replicas} came: make it with num_replicas and rank of the group"
            )
        whole = copy.copy(sampler)
        whole.drop_last = False
        num_processes = sampler.num_replicas
        whole.num_samples = -(-size // num_processes)
        whole.total_size = whole.num_samples * num_processes
        # What it repeats to fill up lies at the end: the place k of rank r is r + k n in the list of all.
        num_own = len(range(sampler.rank, size, num_processes))
        return list(whole)[:num_own]
    repeats = isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != size)
    if not isinstance(sampler, (SequentialSampler, RandomSampler)) or repeats:
        came = type(loader.dataset if is_stream else sampler or loader.batch_sampler)
        raise DataError(
            f"a DataLoader that takes each example of its dataset once was required, one with a {came.__name__} came: "
            "use a DistributedSampler, cut the solution that is made of it, or give each process a loader over its own "
            "share and say already_sharded=True"
        )
    if loader.drop_last and size % (loader.batch_size or 1):
        if isinstance(sampler, RandomSampler):
            raise DataError(
                "the same examples at every pass were required, a DataLoader that shuffles and drops its last batch "
                "came: say drop_last=False or shuffle=False"
            )
        size -= size % (loader.batch_size or 1)  # what one process alone never sees
    return list(range(rank, size, world_size))
