"""Trees: a tensor, or tuples, lists, dicts and dataclasses of trees. Anything else is a leaf that is left alone."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import torch


def map_tensors(function: Callable[[torch.Tensor], Any], tree: Any) -> Any:
    """The same tree with the function applied to every tensor in it."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return _like_mapping(tree, {key: map_tensors(function, value) for key, value in tree.items()})
    if isinstance(tree, (tuple, list)):
        mapped = [map_tensors(function, value) for value in tree]
        return tree._make(mapped) if hasattr(tree, "_make") else type(tree)(mapped)
    if dataclasses.is_dataclass(tree) and tensors(tree):
        copied = copy.copy(tree)  # not `replace`, which would run the user's __post_init__ again
        for name, value in _fields(tree).items():
            object.__setattr__(copied, name, map_tensors(function, value))
        return copied
    return tree


def leaves(tree: Any) -> Iterator[Any]:
    """Every leaf of the tree, in a fixed order."""
    if isinstance(tree, Mapping):
        children: Iterable[Any] = tree.values()
    elif isinstance(tree, (tuple, list)):
        children = tree
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        children = _fields(tree).values()
    else:
        yield tree
        return
    for child in children:
        yield from leaves(child)


def tensors(tree: Any) -> list[torch.Tensor]:
    """Every tensor in the tree, in a fixed order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]


def are_objects(tree: Any) -> bool:
    """Whether this is a list (or tuple) of examples that are objects, such as graphs, and no tree of tensors.

    What an example is made of is its own affair: a list of dataclasses is one of objects even when they hold tensors.
    """
    if not isinstance(tree, (list, tuple)) or hasattr(tree, "_fields"):
        return False
    if not tensors(tree):
        return True
    return isinstance(tree, list) and not any(isinstance(item, (torch.Tensor, Mapping, tuple, list)) for item in tree)


def length(tree: Any) -> int | None:
    """The number of examples: the common first size of all tensors, the length of a list of objects, else None."""
    if are_objects(tree):
        return len(tree)
    leaves = tensors(tree)
    if leaves:
        sizes = {leaf.shape[0] if leaf.ndim else -1 for leaf in leaves}
        return sizes.pop() if len(sizes) == 1 and -1 not in sizes else None
    return None


def take(tree: Any, positions: torch.Tensor) -> Any:
    """The examples at these positions of every tensor's first axis; of the list itself when it is one of objects."""
    if are_objects(tree):
        return [tree[i] for i in positions.tolist()]
    return map_tensors(lambda leaf: leaf[positions.to(leaf.device)], tree)


def to(tree: Any, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Any:
    """The tree on a device, its floating tensors in a dtype; objects with a `to` of their own are moved by it."""

    def move(leaf: torch.Tensor) -> torch.Tensor:
        return leaf.to(device=device, dtype=dtype if leaf.is_floating_point() else None)

    if are_objects(tree):
        return type(tree)(_moved(item, device, move) for item in tree)
    return map_tensors(move, tree)


def _moved(item: Any, device: torch.device | None, move: Callable[[torch.Tensor], Any]) -> Any:
    """An object on a device, by its own `to` where it has one; the tensors that it holds openly follow the dtype."""
    if dataclasses.is_dataclass(item):
        return map_tensors(move, item)
    moved = item.to(device) if callable(getattr(item, "to", None)) else item
    held = {name: value for name, value in getattr(moved, "__dict__", {}).items() if isinstance(value, torch.Tensor)}
    changed = {name: new for name, value in held.items() if (new := move(value)) is not value}
    if changed:
        moved = copy.copy(moved)
        vars(moved).update(changed)
    return moved


def example_hashes(tree: Any, size: int) -> torch.Tensor | None:
    """``(size,)`` int64, a hash of each example's content; None when the tree has no axis of this size for examples.

    Objects are hashed one by one; of a tensor the first axis counts, or the second where only that one fits.
    """
    found = tensors(tree)
    if not found or are_objects(tree):
        if not isinstance(tree, (list, tuple)) or len(tree) != size:
            return None
        digests = [int(fingerprint(contents(item))[:15], 16) for item in tree]
        return torch.tensor(digests, dtype=torch.int64, device="cpu")
    total = torch.zeros(size, dtype=torch.int64, device="cpu")
    for place, leaf in enumerate(found):
        axis = next((axis for axis, length in enumerate(leaf.shape[:2]) if length == size), None)
        if axis is None:
            return None
        rows = _content(leaf.movedim(axis, 0))
        words = _as_integers(rows.flatten(1) if rows.ndim > 1 else rows[:, None])
        generator = torch.Generator("cpu").manual_seed(place)
        span, width = 2**62, (words.shape[1],)
        keys = torch.randint(-span, span, width, generator=generator, dtype=torch.int64, device="cpu") | 1
        total = total * 1_000_003 + (words * keys).sum(1)  # wraps around: a hash modulo 2^64
    return total


def fingerprint(tree: Any) -> str:
    """SHA-256, in hex, of the tree: dtypes, shapes and bytes of its tensors, and its plain values."""
    sha = hashlib.sha256()
    for leaf in leaves(tree):
        if not isinstance(leaf, torch.Tensor):
            plain = leaf is None or isinstance(leaf, (str, bytes, bool, int, float, complex))
            sha.update(f"{ascii(leaf) if plain else type(leaf).__qualname__};".encode())
            continue
        leaf = _content(leaf)
        sha.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
        sha.update(leaf.reshape(-1).view(torch.uint8).numpy().tobytes() if leaf.numel() else b"")
    return sha.hexdigest()


def contents(item: Any) -> Any:
    """What an object holds, as a tree; anything without attributes is itself."""
    return vars(item) if hasattr(item, "__dict__") else item


def _content(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.detach().cpu().resolve_conj().resolve_neg().contiguous()


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
        if not isinstance(original, MutableMapping):
            return type(original)(mapped)  # type: ignore[call-arg]
        copied = copy.copy(original)  # OrderedDict, defaultdict, BatchEncoding, ModelOutput and the like
        for key, value in mapped.items():
            copied[key] = value
        return copied
    except TypeError:
        return mapped


def _fields(tree: Any) -> dict[str, Any]:
    return {item.name: getattr(tree, item.name) for item in dataclasses.fields(tree) if hasattr(tree, item.name)}
