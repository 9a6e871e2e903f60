"""Handwritten digits, 1,797 images of 8x8 pixels: ships with scikit-learn, nothing to download."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch

from vallis.core.data import Arrays
from vallis.core.losses import CrossEntropy
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems._checks import check_share
from vallis.problems._choose import stratified_order


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Ten classes of images ``(N, 1, 8, 8)`` in [0, 1]; each seed splits them anew.

    Attributes:
        test_fraction: the share that becomes the split "test", class by class.
    """

    test_fraction: float = 0.25

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_share("digits.test_fraction", self.test_fraction, zero=False, one=False)

    @classmethod
    def tiny(cls) -> Digits:
        """The cheapest settings, for tests."""
        return cls(test_fraction=0.95)

    def build(self, rng: Rng) -> tuple[Task, ...]:
        x, y = load_digits()
        num_test = min(max(round(self.test_fraction * len(y)), 1), len(y) - 1)
        order = stratified_order(y, rng.child("split"))
        chosen = {"train": order[num_test:].sort().values, "test": order[:num_test].sort().values}
        splits = {name: Arrays(x=x[index], y=y[index], index=index) for name, index in chosen.items()}
        return (Task(name="digits", splits=splits, loss=CrossEntropy()),)


def load_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """``(1797, 1, 8, 8)`` float32 images in [0, 1] and ``(1797,)`` classes."""
    images, target = _stored()
    return torch.tensor(images, dtype=torch.float32)[:, None] / 16, torch.tensor(target, dtype=torch.int64)


@cache
def _stored() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits as load  # a second of imports that listing parts must not pay

    held = load()
    return held.images, held.target
