"""Fashion-MNIST: pieces of clothing, 60,000 + 10,000 images of 28x28 pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems._checks import check_choice, check_number
from vallis.problems._files import Content, Origin, idx_reader, load
from vallis.problems._images import Whiten, image_task

_HOME = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
ORIGIN = Origin(
    title="Fashion-MNIST",
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "FashionMNIST"),
    advice="on Debian run apt-get install dataset-fashion-mnist, elsewhere put its four IDX files "
    "(github.com/zalandoresearch/fashion-mnist) into a folder and set VALLIS_DATA to that folder",
    checksums={
        "x_train": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "y_train": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "x_test": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "y_test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
    urls={f"{_HOME}/{name}-ubyte.gz": None for name in _FILES},
)


@dataclass(frozen=True, kw_only=True)
class FashionMnist:
    """Ten balanced classes of images ``(N, 1, 28, 28)`` in [0, 1].

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
        check_number("fashion_mnist.num_train", self.num_train)
        check_number("fashion_mnist.num_test", self.num_test)
        check_choice("fashion_mnist.whiten", self.whiten, Whiten)

    @classmethod
    def tiny(cls) -> FashionMnist:
        """The cheapest settings, for tests."""
        return cls(num_train=60, num_test=30)

    def build(self, rng: Rng) -> tuple[Task, ...]:
        stored = load_fashion_mnist()
        task = image_task(
            "fashion_mnist", stored, rng, num_train=self.num_train, num_test=self.num_test, whiten=self.whiten
        )
        return (task,)


def load_fashion_mnist(root: str | os.PathLike[str] | None = None) -> Content:
    """``x_train (60000, 28, 28)``, ``y_train (60000,)``, ``x_test``, ``y_test``: the bytes as published.

    Args:
        root: where to look first; then the folder in `VALLIS_DATA`, the usual places, the cache, the official home.

    Raises:
        DataMissing: it is nowhere and cannot be downloaded.
        DataCorrupt: a file is damaged, or is not Fashion-MNIST.
    """
    return load(ORIGIN, (idx_reader,), root)
