"""Trees: a tensor, or tuples, lists, dicts and dataclasses of trees. Anything else is a leaf that is left alone."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch


def map_tensors(function: Callable[[torch.Tensor], Any], tree: Any) -> Any:
    """The same tree with the function applied to every tensor in it."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        mapped = {key: map_tensors(function, value) for key, value in tree.items()}
        return _like_mapping(tree, mapped)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(function, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tensors(function, value) for value in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        named = {f.name: map_tensors(function, getattr(tree, f.name)) for f in dataclasses.fields(tree) if f.init}
        return dataclasses.replace(tree, **named)
    return tree


def tensors(tree: Any) -> list[torch.Tensor]:
    """Every tensor in the tree, in a fixed order."""
    found: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(keep, tree)
    return found


def length(tree: Any) -> int | None:
    """The number of examples: the common first size of all tensors, the length of a list of objects, else None."""
    leaves = tensors(tree)
    if leaves:
        sizes = {leaf.shape[0] if leaf.ndim else -1 for leaf in leaves}
        return sizes.pop() if len(sizes) == 1 and -1 not in sizes else None
    return len(tree) if isinstance(tree, (list, tuple)) else None


def take(tree: Any, positions: torch.Tensor) -> Any:
    """The examples at these positions of every tensor's first axis; of the list itself when it is one of objects."""
    if isinstance(tree, (list, tuple)) and not tensors(tree):
        return [tree[i] for i in positions.tolist()]
    return map_tensors(lambda leaf: leaf[positions.to(leaf.device)], tree)


def to(tree: Any, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Any:
    """The tree on a device, its floating tensors in a dtype; objects with a `to` of their own are moved by it."""

    def move(leaf: torch.Tensor) -> torch.Tensor:
        return leaf.to(device=device, dtype=dtype if leaf.is_floating_point() else None)

    if isinstance(tree, (list, tuple)) and not tensors(tree) and all(callable(getattr(i, "to", None)) for i in tree):
        return type(tree)(item.to(device) for item in tree)
    return map_tensors(move, tree)


def example_hashes(tree: Any) -> torch.Tensor | None:
    """``(N,)`` int64, a hash of each example's bytes over all tensors; None when the tree has no example axis."""
    size = length(tree)
    if size is None or not tensors(tree):
        return None
    total = torch.zeros(size, dtype=torch.int64)
    for place, leaf in enumerate(tensors(tree)):
        rows = leaf.detach().cpu().contiguous().reshape(size, -1)
        words = _as_integers(rows)
        generator = torch.Generator().manual_seed(place)
        keys = torch.randint(-(2**62), 2**62, (words.shape[1],), generator=generator, dtype=torch.int64) | 1
        total = total * 1_000_003 + (words * keys).sum(1)  # wraps around: a hash modulo 2^64
    return total


def fingerprint(tree: Any) -> str:
    """SHA-256, in hex, of all tensors in the tree: their dtypes, shapes and bytes."""
    sha = hashlib.sha256()
    for leaf in tensors(tree):
        leaf = leaf.detach().cpu().contiguous()
        sha.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
        sha.update(leaf.reshape(-1).view(torch.uint8).numpy().tobytes() if leaf.numel() else b"")
    return sha.hexdigest()


def _as_integers(rows: torch.Tensor) -> torch.Tensor:
    if rows.dtype is torch.bool:
        return rows.to(torch.int64)
    if rows.is_complex():
        rows = torch.view_as_real(rows).flatten(1)
    same_size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[rows.element_size()]
    return rows.view(same_size).to(torch.int64)


def _like_mapping(original: Mapping[Any, Any], mapped: dict[Any, Any]) -> Any:
    if type(original) is dict:
        return mapped
    try:
        return type(original)(mapped)  # type: ignore[call-arg]  # OrderedDict, BatchEncoding, ModelOutput and the like
    except TypeError:
        return mapped
