"""Brings a user's data in: tensors, arrays, a Dataset, a DataLoader or a list of batches, as a split that repeats.

A loader is read twice at the start, with different random seeds; when both passes saw the same examples, and they fit
into memory, the first pass is kept and nothing can change any more. When they do not fit, every pass is checked.
Reading draws from random streams of its own: the caller's generators stand still, and every pass has one order.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vallis.core import tree
from vallis.core.data import Arrays, Batches, Stream, Tally, summarise
from vallis.core.errors import DataError, SettingsError, VallisError
from vallis.core.functional import preserving_global_state
from vallis.core.passes import bounded
from vallis.core.types import Batch, Data

KEEP_BYTES = 2 * 2**30
Picker = Callable[[Any], Any]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a user's batches are taken apart.

    Attributes:
        inputs: from a batch to what the model is called with; None takes the first of a pair.
        targets: from a batch to what the loss judges against; None takes the second of a pair.
        batch_size: for data that has no batches of its own.
        dtype: arrays of floating numbers become this; tensors are left as they are, but for bytes as targets, which
            become int64 as those in arrays do: torch takes them for masks where it looks something up by them.
    """

    inputs: Picker | None = None
    targets: Picker | None = None
    batch_size: int = 256
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise SettingsError(
                f"a batch_size of at least 1 was required, {self.batch_size!r} came: give a positive integer"
            )

    def read(self, data: Any, split: str, first_index: int) -> Data:
        """The data as a split whose examples are numbered from `first_index` on.

        Raises:
            DataError: it is empty or without end, has NaN, cannot be read twice, or inputs and targets do not match.
            DataChanged: two passes saw different examples.
        """
        if isinstance(data, (Arrays, Batches, Stream)):
            return data
        with preserving_global_state():
            if _is_examples(data, taken_apart=self.inputs is not None and self.targets is not None):
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
        return self._tensors(x, split), tree.map_tensors(_as_int64, self._tensors(y, split))

    def _whole(self, data: Any, split: str, first_index: int) -> Data:
        x, y = self.pair(data, split)
        num_inputs, num_targets = _length(x, y)
        if num_inputs is None or num_targets is None or num_inputs != num_targets:
            raise DataError(
                f"as many targets as inputs were required, {split} has {num_inputs} inputs and {num_targets} targets: "
                "give both one row an example"
            )
        _check(x, y, split, num_inputs)
        index = torch.arange(first_index, first_index + num_inputs, device="cpu")
        own_x, own_y = tree.map_tensors(torch.clone, (x, y))
        return Arrays(x=own_x, y=own_y, index=index, batch_size=self.batch_size)

    def _batched(self, batches: Iterable[Any], split: str, first_index: int) -> Data:
        generators = _generators_of(batches)

        def read(seed: int = 0) -> Iterator[tuple[Any, Any]]:
            pairs = (self.pair(batch, split) for batch in _guarded(batches, split))
            return _with_own_randomness(pairs, generators, seed)

        kept, tally = _first_pass(read(), split, first_index)
        second = summarise(read(seed=1))  # random augmentation must not go unnoticed
        second.must_equal(tally)
        return Batches(kept=tuple(kept)) if kept is not None else Stream(read, first_index, tally)

    def _tensors(self, held: Any, split: str) -> Any:
        if isinstance(held, torch.Tensor):
            return _dense(held, split).detach()
        if type(held) is dict:
            return {key: self._tensors(value, split) for key, value in held.items()}
        if isinstance(held, (tuple, list)):
            if held and all(isinstance(item, str) for item in held):
                return list(held)  # default_collate makes tuples of texts; a tuple would be spread over arguments
            if _is_table(held):
                return self._from_table(held, split)
            parts = [self._tensors(item, split) for item in held]
            return held._make(parts) if hasattr(held, "_make") else type(held)(parts)
        if hasattr(held, "__array__"):  # numpy, pandas and the like
            return self._from_array(np.asarray(held), split)
        return held

    def _from_table(self, rows: Any, split: str) -> Any:
        try:
            array = np.asarray(rows)
        except ValueError:
            return rows  # rows of several lengths: a list of objects
        if array.dtype.kind == "O":
            raise DataError(f"whole numbers below 2^63 were required, {split} holds larger ones: scale them down")
        return self._from_array(array, split)

    def _from_array(self, array: np.ndarray[Any, Any], split: str) -> Any:
        kind, size = array.dtype.kind, array.dtype.itemsize
        if kind in "OSU":
            return self._tensors(array.tolist(), split)
        native = {"b": "?", "i": "i8", "u": "i8", "f": f"f{min(size, 8)}", "c": f"c{min(size, 16)}"}.get(kind)
        if native is None:
            raise DataError(f"numbers or texts were required, {split} holds {array.dtype}: turn it into numbers")
        if kind == "u" and size == 8 and (array > np.iinfo(np.int64).max).any():
            raise DataError(f"whole numbers below 2^63 were required, {split} holds larger ones: scale them down")
        tensor = torch.from_numpy(np.require(array, np.dtype(native), ["C", "W"]))
        return tensor.to(self.dtype) if kind == "f" else tensor


def _first_pass(pairs: Iterator[tuple[Any, Any]], split: str, first_index: int) -> tuple[list[Batch] | None, Tally]:
    kept: list[Batch] | None = []
    tally, held_bytes = Tally(), 0
    for x, y in pairs:
        if tree.length(x) is not None and _is_single(y):
            raise DataError(
                f"batches with one row an example were required, {split} gives one example at a time: "
                "set batch_size in the DataLoader"
            )
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
            own_x, own_y = tree.map_tensors(torch.clone, (x, y))
            kept.append(Batch(x=own_x, y=own_y, index=torch.arange(start, start + size, device="cpu")))
        else:
            kept = None
    if tally.num_examples == 0:
        raise DataError(f"at least one example was required in {split}, none came: give it data")
    return kept, tally


def _is_examples(data: Any, taken_apart: bool) -> bool:
    """Whether this is one structure of tensors that holds all examples, not something that gives batches."""
    if isinstance(data, (Dataset, DataLoader)):
        return False
    if taken_apart and isinstance(data, (torch.Tensor, np.ndarray, list)):
        return not isinstance(data, list)  # inputs= and targets= cut each tensor of a list, or the only one there is
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
    if isinstance(data, (str, bytes, torch.Tensor, np.ndarray)) or not _is_iterable(data):
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


def _is_iterable(data: Any) -> bool:
    return hasattr(data, "__iter__") or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))


def _length(x: Any, y: Any) -> tuple[int | None, int | None]:
    num_targets = tree.length(y)
    num_inputs = tree.length(x)
    # Inputs may hold tensors without an example axis (a mask for all, the edges of a graph): targets decide then.
    return (num_targets if num_inputs is None else num_inputs), (num_inputs if num_targets is None else num_targets)


def _is_single(y: Any) -> bool:
    single = [
        leaf.ndim == 0 if isinstance(leaf, torch.Tensor) else isinstance(leaf, (bool, int, float))
        for leaf in tree.leaves(y)
    ]
    return bool(single) and all(single)


def _second_axis(x: Any, size: int | None) -> bool:
    """Whether inputs are given time first, (T, N, ...), as recurrent and attention modules take them by default."""
    return any(leaf.ndim > 1 and leaf.shape[1] == size for leaf in tree.tensors(x))


def _guarded(batches: Iterable[Any], split: str) -> Iterator[Any]:
    try:
        yield from bounded(batches, split)
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
        numbers = (leaf for leaf in tree.tensors(held) if leaf.is_floating_point() or leaf.is_complex())
        bad = sum(int(leaf.isnan().sum()) for leaf in numbers)
        if bad:
            raise DataError(f"{split} {what} must be numbers, {bad} NaN came: clean them before they are measured")


class _OwnRandomness:
    """A context in which all random generators follow streams of their own, from a seed; outside they stand still."""

    def __init__(self, generators: list[torch.Generator], seed: int) -> None:
        self._generators = [torch.default_generator, *generators]
        self._seed = seed
        self._outside: Any = None
        self._inside: Any = None

    def __enter__(self) -> None:
        self._outside = self._states()
        if self._inside is not None:
            self._set(self._inside)
            return
        for generator in self._generators:
            generator.manual_seed(self._seed)
        np.random.seed(self._seed)
        random.seed(self._seed)

    def __exit__(self, *_: object) -> None:
        self._inside = self._states()
        self._set(self._outside)

    def _states(self) -> Any:
        return [generator.get_state() for generator in self._generators], np.random.get_state(), random.getstate()

    def _set(self, states: Any) -> None:
        for generator, state in zip(self._generators, states[0], strict=True):
            generator.set_state(state)
        np.random.set_state(states[1])
        random.setstate(states[2])


def _with_own_randomness(items: Iterator[Item], generators: list[torch.Generator], seed: int) -> Iterator[Item]:
    randomness = _OwnRandomness(generators, seed)
    while True:
        with randomness, torch.inference_mode(False):
            item = next(items, None)
        if item is None:
            return
        yield item


def _generators_of(batches: Any) -> list[torch.Generator]:
    """The random generators that a loader owns, each once."""
    batch_sampler = getattr(batches, "batch_sampler", None)
    owners = (batches, getattr(batches, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = (getattr(owner, "generator", None) for owner in (*owners, getattr(batches, "dataset", None)))
    return list({id(item): item for item in found if isinstance(item, torch.Generator)}.values())


def _as_int64(held: torch.Tensor) -> torch.Tensor:
    return held.long() if held.dtype == torch.uint8 else held


def _dense(held: torch.Tensor, split: str) -> torch.Tensor:
    if held.is_meta or held.is_nested or held.layout is not torch.strided:
        came = "one without values" if held.is_meta else "a nested or sparse one"
        raise DataError(f"dense tensors with values were required, {split} holds {came}: use .to_dense() or pad it")
    return held


def _is_table(held: Any) -> bool:
    """Whether these are numbers, or a list of lists of numbers."""
    if held and all(isinstance(item, (bool, int, float, np.number, np.bool_)) for item in held):
        return True
    return type(held) is list and bool(held) and all(type(item) is list and _is_table(item) for item in held)


def _described(held: Any) -> str:
    name = type(held).__name__
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    if isinstance(held, Mapping) and held:
        return f"{article} {name} with {', '.join(map(str, held))}"
    return f"{article} {name} of {len(held)}" if isinstance(held, (tuple, list, Mapping)) else f"{article} {name}"
