"""Brings a user's data in: tensors, arrays, a Dataset, a DataLoader or a list of batches, as a split that repeats.

A loader is read twice at the start, with different random seeds; when both passes saw the same examples, and they fit
into memory, the first pass is kept and nothing can change any more. When they do not fit, every pass is checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vallis.core import tree
from vallis.core.data import Arrays, Batches, Stream, Tally
from vallis.core.errors import DataError, VallisError
from vallis.core.functional import preserving_global_state
from vallis.core.types import Batch, Data

KEEP_BYTES = 2 * 2**30
Picker = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a user's batches are taken apart.

    Attributes:
        inputs: from a batch to what the model is called with; None takes the first of a pair.
        targets: from a batch to what the loss judges against; None takes the second of a pair.
        batch_size: for data that has no batches of its own.
        dtype: arrays of floating numbers become this; tensors are left as they are.
    """

    inputs: Picker | None = None
    targets: Picker | None = None
    batch_size: int = 256
    dtype: torch.dtype = torch.float32

    def read(self, data: Any, split: str, first_index: int) -> Data:
        """The data as a split whose examples are numbered from `first_index` on.

        Raises:
            DataError: it is empty, has NaN, cannot be read twice, or inputs and targets do not match.
            DataChanged: two passes saw different examples.
        """
        if isinstance(data, (Arrays, Batches, Stream)):
            return data
        with preserving_global_state():
            if _is_examples(data):
                return self._whole(data, split, first_index)
            return self._batched(_batches_of(data, split, self.batch_size), split, first_index)

    def pair(self, batch: Any, split: str) -> tuple[Any, Any]:
        """Inputs and targets of a batch."""
        pair_like = isinstance(batch, (tuple, list)) and len(batch) == 2
        if not pair_like and (self.inputs is None or self.targets is None):
            raise DataError(
                f"{split} batches must be pairs (inputs, targets), {_described(batch)} came: say how to take it apart "
                "with inputs=lambda batch: ... and targets=lambda batch: ..."
            )
        try:
            x = self.inputs(batch) if self.inputs else batch[0]
            y = self.targets(batch) if self.targets else batch[1]
        except VallisError:
            raise
        except Exception as error:
            raise DataError(
                f"inputs= and targets= must take a {split} batch apart, {_described(batch)} came and they raised "
                f"{type(error).__name__}: {error}"
            ) from error
        return self._tensors(x), self._tensors(y)

    def _whole(self, data: Any, split: str, first_index: int) -> Data:
        x, y = self.pair(data, split)
        num_inputs, num_targets = _length(x, y)
        if num_inputs is None or num_targets is None or num_inputs != num_targets:
            raise DataError(
                f"as many targets as inputs were required, {split} has {num_inputs} inputs and {num_targets} targets: "
                "give both one row an example"
            )
        _check(x, y, split, num_inputs)
        index = torch.arange(first_index, first_index + num_inputs)
        return Arrays(x=x, y=y, index=index, batch_size=self.batch_size)

    def _batched(self, batches: Iterable[Any], split: str, first_index: int) -> Data:
        def read() -> Iterator[tuple[Any, Any]]:
            for batch in _guarded(batches, split):
                yield self.pair(batch, split)

        with _RestoredGenerators(batches):
            kept, tally = _first_pass(read, split, first_index)
            torch.manual_seed(1)  # other seeds than in the first pass: random augmentation must not go unnoticed
            np.random.seed(1)
            second = Tally()
            for x, y in read():
                second.add(x, y)
            second.must_equal(tally)
        return Batches(kept=tuple(kept)) if kept is not None else Stream(read, first_index)

    def _tensors(self, held: Any) -> Any:
        if isinstance(held, np.ndarray):
            tensor = torch.from_numpy(np.ascontiguousarray(held)) if held.flags.writeable else torch.tensor(held)
            if tensor.is_floating_point():
                return tensor.to(self.dtype)
            return tensor if tensor.dtype is torch.bool else tensor.to(torch.int64)
        if isinstance(held, torch.Tensor):
            return held.detach()
        if isinstance(held, Mapping) and type(held) is dict:
            return {key: self._tensors(value) for key, value in held.items()}
        if isinstance(held, (tuple, list)) and not hasattr(held, "_fields"):
            if held and all(isinstance(item, str) for item in held):
                return list(held)  # default_collate makes tuples of texts; a tuple would be spread over arguments
            if held and all(isinstance(item, (bool, int, float, np.number)) for item in held):
                return self._tensors(np.asarray(held))
            return type(held)(self._tensors(item) for item in held)
        return held


def _first_pass(
    read: Callable[[], Iterator[tuple[Any, Any]]], split: str, first_index: int
) -> tuple[list[Batch] | None, Tally]:
    torch.manual_seed(0)
    np.random.seed(0)
    kept: list[Batch] | None = []
    tally, held_bytes = Tally(), 0
    for x, y in read():
        num_inputs, num_targets = _length(x, y)
        if num_inputs != num_targets and not _second_axis(x, num_targets):
            raise DataError(
                f"as many targets as inputs were required, a {split} batch has {num_inputs} inputs and "
                f"{num_targets} targets: check the loader, or inputs= and targets="
            )
        size = tally.add(x, y)
        _check(x, y, split, size)
        start = first_index + tally.num_examples - size
        held_bytes += sum(leaf.numel() * leaf.element_size() for leaf in tree.tensors((x, y)))
        if kept is not None and held_bytes <= KEEP_BYTES:
            kept.append(Batch(x=tree.map_tensors(torch.clone, x), y=y, index=torch.arange(start, start + size)))
        else:
            kept = None
    if tally.num_examples == 0:
        raise DataError(f"at least one example was required in {split}, none came: give it data")
    return kept, tally


def _is_examples(data: Any) -> bool:
    """Whether this is one structure of tensors that holds all examples, not something that gives batches."""
    if isinstance(data, (Dataset, DataLoader)):
        return False
    if isinstance(data, (tuple, Mapping)) or dataclasses.is_dataclass(data):
        return True
    return isinstance(data, list) and bool(data) and all(isinstance(i, (torch.Tensor, np.ndarray)) for i in data)


def _batches_of(data: Any, split: str, batch_size: int) -> Iterable[Any]:
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, Dataset):
        if hasattr(data, "__len__") and len(data) == 0:
            raise DataError(f"at least one example was required in {split}, the dataset is empty: give it data")
        return DataLoader(data, batch_size=batch_size)
    if data is None:
        raise DataError(f"data was required for {split}, None came: give tensors, a Dataset or a DataLoader")
    if isinstance(data, (str, bytes, torch.Tensor, np.ndarray)) or not hasattr(data, "__iter__"):
        raise DataError(
            f"{split} must be (inputs, targets), a Dataset, a DataLoader or a list of batches, {_described(data)} "
            "came: give inputs and targets together"
        )
    if iter(data) is data:
        raise DataError(
            f"{split} must be readable more than once, {_described(data)} came, which is spent after one pass: "
            "give a list or a DataLoader"
        )
    if not isinstance(data, list) and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return DataLoader(data, batch_size=batch_size)  # a map-style dataset by behaviour
    return data  # type: ignore[no-any-return]


def _length(x: Any, y: Any) -> tuple[int | None, int | None]:
    num_targets = tree.length(y)
    num_inputs = tree.length(x)
    # Inputs may hold tensors without an example axis (a mask for all, the edges of a graph): targets decide then.
    return (num_targets if num_inputs is None else num_inputs), (num_inputs if num_targets is None else num_targets)


def _second_axis(x: Any, size: int | None) -> bool:
    """Whether inputs are given time first, (T, N, ...), as recurrent and attention modules take them by default."""
    return any(leaf.ndim > 1 and leaf.shape[1] == size for leaf in tree.tensors(x))


def _guarded(batches: Iterable[Any], split: str) -> Iterator[Any]:
    try:
        yield from batches
    except VallisError:
        raise
    except Exception as error:
        raise DataError(
            f"batches that can be read were required, reading {split} raised {type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}; check the dataset and its collate function"
        ) from error


def _check(x: Any, y: Any, split: str, size: int) -> None:
    if size == 0:
        raise DataError(f"at least one example was required in {split}, an empty batch came: give it data")
    for what, held in (("inputs", x), ("targets", y)):
        bad = sum(int(leaf.isnan().sum()) for leaf in tree.tensors(held) if leaf.is_floating_point())
        if bad:
            raise DataError(f"{split} {what} must be numbers, {bad} NaN came: clean them before they are measured")


class _RestoredGenerators:
    """Puts the random generators that a loader owns back to where they were."""

    def __init__(self, batches: Iterable[Any]) -> None:
        owners = (batches, getattr(batches, "sampler", None), getattr(batches, "dataset", None))
        found = (getattr(owner, "generator", None) for owner in owners)
        self._states = [(g, g.get_state()) for g in found if isinstance(g, torch.Generator)]

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        for generator, state in self._states:
            generator.set_state(state)


def _described(held: Any) -> str:
    if isinstance(held, (tuple, list)):
        return f"a {type(held).__name__} of {len(held)}"
    if isinstance(held, Mapping):
        return f"a {type(held).__name__} with {', '.join(map(str, held))}"
    return f"a {type(held).__name__}"
