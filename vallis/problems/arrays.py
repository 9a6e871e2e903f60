"""Your own data: an npz file with x_train and y_train, and x_test and y_test if there is a test set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core import data
from vallis.core.errors import DataChanged, DataCorrupt, DataError, DataMissing
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems._checks import check_choice
from vallis.problems._files import KEYS, read_npz

Losses = Literal["cross_entropy", "binary_cross_entropy", "squared_error"]
_LOSSES: Mapping[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "squared_error": SquaredError,
}


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Inputs ``(N, ...)``, used as they are in float32 (scale them before), and targets of N rows.

    Attributes:
        path: the file.
        sha256: of the file's bytes; filled in when left empty, so that the name of a run says which content it saw,
            and checked when the data are built.
        loss: "cross_entropy" takes classes 0..C-1, "binary_cross_entropy" takes 0 and 1, "squared_error" takes numbers.
    """

    path: str
    sha256: str = ""
    loss: Losses = "cross_entropy"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_choice("arrays.loss", self.loss, Losses)
        if not self.sha256:
            object.__setattr__(self, "sha256", hash_file(self.path))

    @classmethod
    def tiny(cls) -> Arrays:
        """The cheapest settings, for tests."""
        return cls(path=str(Path(__file__).with_name("_tiny.npz")))

    def build(self, rng: Rng) -> tuple[Task, ...]:
        if (found := hash_file(self.path)) != self.sha256:
            raise DataChanged(
                f"the file with SHA-256 {self.sha256[:12]}... was required, {self.path} now has {found[:12]}...: "
                "put the old file back, or leave sha256 empty to take the new one"
            )
        stored = load_arrays(self.path)
        as_targets = numbers if self.loss == "squared_error" else classes
        splits, first = {}, 0
        for split in ("train", "test"):
            if f"x_{split}" in stored:
                x = numbers(stored[f"x_{split}"], f"x_{split} of {self.path}")
                y = as_targets(stored[f"y_{split}"], f"y_{split} of {self.path}")
                splits[split] = data.Arrays(x=x, y=y, index=torch.arange(first, first + len(x)))
                first += len(x)
        self._check_together(splits)
        return (Task(name="arrays", splits=splits, loss=_LOSSES[self.loss]()),)

    def _check_together(self, splits: Mapping[str, data.Arrays]) -> None:
        shapes = {tuple(split.x.shape[1:]) for split in splits.values()}
        if len(shapes) > 1:
            raise DataError(f"inputs of one shape were required, {self.path} holds {shapes}: make x_test like x_train")
        highest = max(int(split.y.max()) for split in splits.values())
        if self.loss == "binary_cross_entropy" and highest > 1:
            raise DataError(f"classes 0 and 1 were required, {self.path} goes up to {highest}: renumber them")


def numbers(array: NDArray[np.generic], what: str) -> torch.Tensor:
    """A stored array as float32.

    Raises:
        DataError: it is empty, holds no real numbers, or one that is not finite in float32.
    """
    if array.ndim == 0 or len(array) == 0:
        raise DataError(f"at least one example was required, {what} has shape {array.shape}: give it rows")
    if array.dtype.kind not in "fiub":
        raise DataError(f"real numbers were required, {what} holds {array.dtype}: convert them before saving")
    with np.errstate(over="ignore"):
        converted = torch.tensor(array.astype(np.float32))
    rows = (~converted.isfinite()).nonzero()
    if len(rows):
        raise DataError(f"finite numbers were required, {what} holds NaN or infinity in row {int(rows[0][0])}: mend it")
    return converted


def classes(array: NDArray[np.generic], what: str) -> torch.Tensor:
    """A stored array as classes ``(N,)`` of int64.

    Raises:
        DataError: it is empty, of another shape or type, or negative somewhere.
    """
    if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iub":
        raise DataError(f"one integer class a row was required, {what} is {array.dtype} {array.shape}: convert it")
    converted = torch.tensor(array.astype(np.int64))
    if int(converted.min()) < 0:
        raise DataError(f"classes 0..C-1 were required, {what} goes down to {int(converted.min())}: renumber them")
    return converted


def load_arrays(path: str) -> dict[str, NDArray[np.generic]]:
    """What lies under x_train, y_train, x_test and y_test; the last two may be missing together.

    Raises:
        DataCorrupt: the file is damaged, no npz, holds pickled objects, or lacks a key.
    """
    held = read_npz(Path(path).expanduser(), KEYS)
    keys = KEYS if {"x_test", "y_test"} & set(held) else KEYS[:2]
    if lacking := [key for key in keys if key not in held]:
        raise DataCorrupt(
            f"an npz file with {', '.join(keys)} was required, {path} lacks {', '.join(lacking)}: "
            "write it with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
        )
    return held


def hash_file(path: str) -> str:
    """The SHA-256, in hex, of a file's bytes.

    Raises:
        DataMissing: there is no such file, or it cannot be read.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataMissing(
            f"an npz file was required at {path}, none can be read ({error.strerror}): give its path"
        ) from error
