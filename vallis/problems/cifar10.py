"""CIFAR-10: photographs of ten kinds of things, 50,000 + 10,000 images of 3x32x32, from the binary version.

The version for Python is a pickle, which can run code; it is never read.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems._checks import check_choice, check_number
from vallis.problems._files import Content, Origin, load, npz_reader, reading
from vallis.problems._images import Whiten, image_task

Variant = Literal["full", "mini"]
_RECORD = 1 + 3 * 32 * 32
_FOLDER = "cifar-10-batches-bin"
_ARCHIVE = "cifar-10-binary.tar.gz"
_PARTS = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
FULL = Origin(
    title="CIFAR-10",
    folders=("cifar10", _FOLDER, f"cifar10/{_FOLDER}", "cifar-10"),
    advice=f"put {_ARCHIVE} (www.cs.toronto.edu/~kriz/cifar.html, the binary version) into a folder and set "
    "VALLIS_DATA to that folder",
    # No checksum of the content is published; this is the archive's, as the authors' page states it.
    urls={f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
)
MINI = Origin(
    title="the small CIFAR-10 (500 + 100 images a class)",
    folders=("cifar10",),
    advice="put cifar10_mini_5000_1000.npz into a folder and set VALLIS_DATA to that folder, or take "
    'variant="full" with num_train and num_test',
    checksums={
        "x_train": "6ad228f4abf1c9334cfde3111dd2cf54fdb92845c6641dde15523807850e9491",
        "y_train": "82b397643bd8851eecd4bf04f74438bf4aeeb7d1f9074791252a04fd9277c0f3",
        "x_test": "c7a0ff14cc4bbf93a2ec1eafee5c680db49c6a9e91797f5c5df2e628f0a2cfe0",
        "y_test": "bf5fd7ab55257c7eeece32a36d229c4767d2479b59c8d506b7e35494f9cbf574",
    },
)


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """Ten balanced classes of images ``(N, 3, 32, 32)`` in [0, 1].

    Attributes:
        variant: "full" is the published set; "mini" is another data set, 5,000 + 1,000 images out of it in one npz
            file, and has to be asked for by name.
        num_train: keep a random choice of this many training images, class by class; None keeps all.
        num_test: likewise of the test images.
        whiten: "per_image" gives every image mean 0 and standard deviation 1.
        centre_crop: cut a square of this side out of the middle (28 in Zhang et al. 2017); None keeps all 32.
        subtract_mean_image: take the mean of the training images that were kept from every image, as for residual
            networks in Patrini et al. (2017).
    """

    variant: Variant = "full"
    num_train: int | None = None
    num_test: int | None = None
    whiten: Whiten = "none"
    centre_crop: int | None = None
    subtract_mean_image: bool = field(default=False, metadata={"was": False})

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("cifar10.num_train", self.num_train)
        check_number("cifar10.num_test", self.num_test)
        check_choice("cifar10.whiten", self.whiten, Whiten)
        check_choice("cifar10.variant", self.variant, Variant)
        if self.centre_crop is not None and not 1 <= self.centre_crop <= 32:
            raise SettingsError(f"cifar10.centre_crop must be in 1..32, {self.centre_crop} came: crop less")

    @classmethod
    def tiny(cls) -> Cifar10:
        """The cheapest settings, for tests."""
        return cls(variant="mini", num_train=60, num_test=30)

    def build(self, rng: Rng) -> tuple[Task, ...]:
        stored = load_cifar10(variant=self.variant)
        task = image_task(
            "cifar10",
            stored,
            rng,
            num_train=self.num_train,
            num_test=self.num_test,
            whiten=self.whiten,
            centre_crop=self.centre_crop,
            subtract_mean_image=self.subtract_mean_image,
        )
        return (task,)


def load_cifar10(root: str | os.PathLike[str] | None = None, *, variant: Variant = "full") -> Content:
    """``x_train (N, 3, 32, 32)``, ``y_train (N,)``, ``x_test``, ``y_test``: the bytes as published.

    Args:
        root: where to look first; then the folder in `VALLIS_DATA`, the usual places, the cache, the official home.
        variant: see `Cifar10`.

    Raises:
        DataMissing: it is nowhere and cannot be downloaded.
        DataCorrupt: a file is damaged, or is not CIFAR-10.
    """
    if variant == "mini":
        return load(MINI, (npz_reader("cifar10_mini_5000_1000.npz"),), root)
    return load(FULL, (_read_folder, _read_archive), root)


def _read_folder(folder: Path) -> Content | None:
    if not all((folder / name).is_file() for names in _PARTS.values() for name in names):
        return None
    with reading(folder):
        return _decode(lambda name: (folder / name).read_bytes())


def _read_archive(folder: Path) -> Content | None:
    path = folder / _ARCHIVE
    if not path.is_file():
        return None
    with reading(path):
        try:
            with tarfile.open(path) as archive:
                files = {Path(item.name).name: archive.extractfile(item) for item in archive if item.isfile()}
                return _decode(lambda name: file.read() if (file := files.get(name)) else b"")
        except tarfile.TarError as error:
            raise ValueError(str(error)) from error


def _decode(read: Callable[[str], bytes]) -> Content:
    content: Content = {}
    for split, names in _PARTS.items():
        records = np.concatenate([_records(read(name), name) for name in names])
        labels = records[:, 0]
        counts = np.bincount(labels, minlength=10)
        if counts.tolist() != [1000 * len(names)] * 10:
            raise ValueError(f"{1000 * len(names)} {split} images of each of the classes 0..9 required, {counts} there")
        content[f"x_{split}"] = records[:, 1:].reshape(-1, 3, 32, 32)
        content[f"y_{split}"] = labels
    return content


def _records(data: bytes, name: str) -> NDArray[np.uint8]:
    if len(data) != 10_000 * _RECORD:
        raise ValueError(f"{name} must hold {10_000 * _RECORD} bytes, {len(data)} there")
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, _RECORD)
