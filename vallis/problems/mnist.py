"""MNIST: handwritten digits, 60,000 + 10,000 images of 28x28 pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems._checks import check_choice, check_number
from vallis.problems._files import Content, Origin, idx_reader, load, npz_reader
from vallis.problems._images import Whiten, image_task

# The mirror that torchvision uses: the authors' own page no longer serves the files.
_HOME = "https://ossci-datasets.s3.amazonaws.com/mnist"
_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
ORIGIN = Origin(
    title="MNIST",
    folders=("mnist", "MNIST/raw", "MNIST"),
    advice="put its four IDX files, or Keras' mnist.npz, into a folder and set VALLIS_DATA to that folder",
    checksums={
        "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    urls={f"{_HOME}/{name}-ubyte.gz": None for name in _FILES},
)


@dataclass(frozen=True, kw_only=True)
class Mnist:
    """Ten classes of images ``(N, 1, 28, 28)`` in [0, 1].

    Attributes:
        num_train: keep a random choice of this many training images, class by class; None keeps all 60,000.
        num_test: likewise of the 10,000 test images.
        whiten: "per_image" gives every image mean 0 and standard deviation 1.
    """

    num_train: int | None = None
    num_test: int | None = None
    whiten: Whiten = "none"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("mnist.num_train", self.num_train)
        check_number("mnist.num_test", self.num_test)
        check_choice("mnist.whiten", self.whiten, Whiten)

    @classmethod
    def tiny(cls) -> Mnist:
        """The cheapest settings, for tests."""
        return cls(num_train=60, num_test=30)

    def build(self, rng: Rng) -> tuple[Task, ...]:
        stored = load_mnist()
        task = image_task("mnist", stored, rng, num_train=self.num_train, num_test=self.num_test, whiten=self.whiten)
        return (task,)


def load_mnist(root: str | os.PathLike[str] | None = None) -> Content:
    """``x_train (60000, 28, 28)``, ``y_train (60000,)``, ``x_test``, ``y_test``: the bytes as published.

    Args:
        root: where to look first; then the folder in `VALLIS_DATA`, the usual places, the cache, the official home.

    Raises:
        DataMissing: it is nowhere and cannot be downloaded.
        DataCorrupt: a file is damaged, or is not MNIST.
    """
    return load(ORIGIN, (idx_reader, npz_reader("mnist.npz")), root)
