"""What processes of a group say to each other: numbers that they add up, and whether they agree.

All of it is deterministic, and every process holds the same bits afterwards: what is summed is summed on one and sent
to the others, because a sum of floating numbers depends on its order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed

from vallis.core.errors import UsageError

Found = TypeVar("Found")
_ONE_MODEL = "load one checkpoint on all of them, or broadcast parameters and buffers from rank 0"
Group = Any  # a torch.distributed.ProcessGroup; None is all processes


class Ranks:
    """The processes of a group.

    Args:
        group: a process group of torch.distributed; None takes all processes.
        device: where the tensors are that will be sent.

    Attributes:
        rank: which of them this one is.
        num_ranks: how many there are.

    Raises:
        UsageError: no process group is there, or its backend cannot send from this device.
    """

    def __init__(self, group: Group = None, device: torch.device | str = "cpu") -> None:
        if not (distributed.is_available() and distributed.is_initialized()):
            raise UsageError(
                "a process group was required for data-parallel products, none is there: start the script with "
                "torchrun and call torch.distributed.init_process_group() first"
            )
        self.group = group
        self.device = torch.device(device)
        self.rank = distributed.get_rank(group)
        self.num_ranks = distributed.get_world_size(group)
        if self.rank < 0:
            raise UsageError("a process of the group was required, one outside came: leave it out, or take all")
        backend = str(distributed.get_backend(group))
        if backend == "nccl" and self.device.type != "cuda":
            raise UsageError(
                f"parameters on a GPU were required for nccl, those on {self.device} came: move the model, or call "
                'init_process_group("cpu:gloo,cuda:nccl")'
            )

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, with the same bits on each."""
        total = tensor.contiguous().clone()
        first = distributed.get_global_rank(self._group, 0)
        distributed.reduce(total, first, group=self.group)
        distributed.broadcast(total, first, group=self.group)
        return total

    def gather(self, numbers: list[float]) -> torch.Tensor:
        """``(R, n)`` float64 the n numbers of each process, in the order of ranks."""
        own = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        found = [torch.empty_like(own) for _ in range(self.num_ranks)]
        distributed.all_gather(found, own, group=self.group)
        return torch.stack(found).cpu()

    def gather_objects(self, held: Any) -> list[Any]:
        """What each process holds, in the order of ranks; small and picklable."""
        found: list[Any] = [None] * self.num_ranks
        distributed.all_gather_object(found, held, group=self.group)
        return found

    def together(self, make: Callable[[], Found]) -> Found:
        """What `make` returns, once it has returned on all processes; where one raises, all do, and none waits for it.

        Raises:
            UsageError: it raised on another process.
        """
        error: Exception | None = None
        try:
            found = make()
        except Exception as raised:
            error = raised
        texts = self.gather_objects(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        failed = [f"rank {rank}: {text}" for rank, text in enumerate(texts) if text is not None]
        if failed:
            raise UsageError(f"the same work on all processes was required, it failed on another: {failed[0]}")
        return found

    def must_agree(self, what: str, held: Any, advice: str = _ONE_MODEL) -> None:
        """Lets equal things pass.

        Args:
            what: it is, in words.
            held: by this process; small and picklable.
            advice: what to do where they differ.

        Raises:
            UsageError: they differ between processes; all raise.
        """
        found = self.gather_objects(held)
        other = next((rank for rank, value in enumerate(found) if value != found[0]), None)
        if other is not None:
            came = f"{found[0]} on rank 0; {found[other]} on rank {other}"
            raise UsageError(f"the same {what} on all processes was required, {came} came: {advice}")

    @property
    def _group(self) -> Group:
        return self.group if self.group is not None else distributed.group.WORLD


def must_count(ranks: Ranks, weight: float) -> int:
    """The first process on which something counts, of what each of them counted.

    Raises:
        UsageError: nothing does on any; all raise.
    """
    counted = ranks.gather([weight])[:, 0]
    if not float(counted.sum()) > 0:
        raise UsageError("at least one counted target was required, no process has one: check weight= or ignore_index")
    return int(counted.nonzero()[0])
