"""How much memory may be used: what is free on a device, and what a computation's graph holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

_UNKNOWN = 4 * 2**30
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def spare_bytes(device: torch.device) -> int:
    """The memory that is free on the device; on the CPU what the system and the container still give."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_system(), _container())


def graph_bytes(build: Callable[[], object], besides: Iterable[torch.Tensor] = ()) -> float:
    """How much memory the graph that `build` makes and returns holds on to, its result included.

    Args:
        build: computes something that requires gradients and returns it; it is called once and what it made is freed.
        besides: tensors that exist anyway and are not counted.

    Returns:
        Bytes; infinity where it cannot be told, because a network that takes derivatives itself, by `torch.func`, lets
        nobody see what its graph saves.
    """
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.update(_storage(tensor))
        return tensor.detach()  # the tensor itself, when it is an output, would keep its own node alive for ever

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            built = build()
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        return math.inf
    for tensor in besides:
        for place in _storage(tensor):
            held.pop(place, None)
    del built  # only now: addresses are counted once as long as nothing is freed in between
    return sum(held.values())


def _storage(tensor: torch.Tensor) -> dict[int, int]:
    """The address and the size of what lies under a tensor."""
    try:
        storage = tensor.untyped_storage()
        return {storage.data_ptr(): storage.nbytes()}
    except (NotImplementedError, RuntimeError):  # opaque layouts have no storage
        return {id(tensor): tensor.numel() * tensor.element_size()}


def _system() -> int:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _UNKNOWN


def _container() -> int:
    """What a control group's limit leaves; unlimited where there is none."""
    try:
        limit = (_GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        return 2**62 if limit == "max" else max(0, int(limit) - used)
    except (OSError, ValueError):
        return 2**62
