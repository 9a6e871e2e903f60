"""Toy problems: a regression and a bowl of known Hessian, clouds of points with a known best error, pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from vallis.core.data import Arrays
from vallis.core.losses import CrossEntropy, SquaredError
from vallis.core.rng import Rng
from vallis.core.types import Data, Task


@dataclass(frozen=True, kw_only=True)
class LinearRegression:
    """Gaussian inputs ``(N, num_inputs)`` and a noisy linear target ``(N, 1)``, judged by the squared error.

    For a linear model without bias the Hessian is ``2/N X^T X`` everywhere.
    """

    version: ClassVar[int] = 1

    num_examples: int = 40
    num_inputs: int = 5
    std_noise: float = 0.1

    def build(self, rng: Rng) -> tuple[Task, ...]:
        generator = rng.child("examples").torch()
        weights = torch.randn(self.num_inputs, 1, generator=generator, dtype=torch.float64)
        splits = {}
        for name, first in (("train", 0), ("test", self.num_examples)):
            x = torch.randn(self.num_examples, self.num_inputs, generator=generator, dtype=torch.float64)
            noise = torch.randn(self.num_examples, 1, generator=generator, dtype=torch.float64)
            splits[name] = _held(x, x @ weights + self.std_noise * noise, first)
        return (Task(name="linear_regression", splits=splits, loss=SquaredError()),)


@dataclass(frozen=True, kw_only=True)
class QuadraticBowl:
    """A regression whose loss for a linear model without bias has exactly these Hessian eigenvalues, and minimum 0."""

    version: ClassVar[int] = 1

    eigenvalues: tuple[float, ...] = (10.0, 3.0, 1.0, 0.1)

    def build(self, rng: Rng) -> tuple[Task, ...]:
        generator = rng.child("axes").torch()
        size = len(self.eigenvalues)
        axes, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
        minimum = torch.randn(size, 1, generator=generator, dtype=torch.float64)
        # The Hessian is 2/N X^T X with N = size.
        scale = torch.tensor(self.eigenvalues, dtype=torch.float64).mul(size / 2).sqrt()
        x = scale[:, None] * axes
        return (Task(name="quadratic_bowl", splits={"train": _held(x, x @ minimum, 0)}, loss=SquaredError()),)


@dataclass(frozen=True, kw_only=True)
class Blobs:
    """Gaussian clouds of unit variance, one a class, with their centres on a circle.

    Attributes:
        distance: between the centres of two classes: the best error with two of them is `bayes_error`.
        angles: a task for each, with the circle turned by this angle: two of them are two tasks in sequence.
        double: inputs in float64.
    """

    version: ClassVar[int] = 1

    num_train: int = 48
    num_test: int = 24
    num_classes: int = 2
    distance: float = 3.0
    angles: tuple[float, ...] = (0.0,)
    double: bool = False

    @property
    def bayes_error(self) -> float:
        """The error of the best classifier of two classes, ``Phi(-distance / 2)``."""
        return 0.5 * math.erfc(self.distance / 2 / math.sqrt(2))

    def build(self, rng: Rng) -> tuple[Task, ...]:
        size = self.num_train + self.num_test
        return tuple(
            Task(name=f"blobs_{place}", splits=self._splits(angle, place * size, rng.child(place)), loss=CrossEntropy())
            for place, angle in enumerate(self.angles)
        )

    def _splits(self, angle: float, first: int, rng: Rng) -> Mapping[str, Data]:
        size = self.num_train + self.num_test
        radius = self.distance / 2 / math.sin(math.pi / self.num_classes)
        y = torch.arange(size) % self.num_classes
        turn = angle + 2 * math.pi * y / self.num_classes
        x = torch.randn(size, 2, generator=rng.torch(), dtype=torch.float64)
        x += radius * torch.stack([turn.cos(), turn.sin()], dim=1)
        x = x if self.double else x.float()
        cut = self.num_train
        return {"train": _held(x[:cut], y[:cut], first), "test": _held(x[cut:], y[cut:], first + cut)}


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Noisy pictures ``(N, channels, size, size)`` of one bar, lying or standing."""

    version: ClassVar[int] = 1

    num_train: int = 24
    num_test: int = 12
    channels: int = 1
    size: int = 8
    std_noise: float = 0.1
    double: bool = False

    def build(self, rng: Rng) -> tuple[Task, ...]:
        total = self.num_train + self.num_test
        generator = rng.child("pictures").torch()
        shape = (total, self.channels, self.size, self.size)
        x = self.std_noise * torch.randn(shape, generator=generator, dtype=torch.float64)
        where = torch.randint(self.size, (total,), generator=generator)
        y = torch.arange(total) % 2
        for place, (row, standing) in enumerate(zip(where.tolist(), y.tolist(), strict=True)):
            bar = x[place, :, :, row] if standing else x[place, :, row, :]
            bar += 1.0
        x = x if self.double else x.float()
        cut = self.num_train
        splits = {"train": _held(x[:cut], y[:cut], 0), "test": _held(x[cut:], y[cut:], cut)}
        return (Task(name="bars", splits=splits, loss=CrossEntropy()),)


def regression_hessian(task: Task) -> torch.Tensor:
    """``(P, P)`` the Hessian of the train loss of a linear model without bias: ``2/N X^T X``."""
    (batch,) = task.splits["train"]
    x: torch.Tensor = batch.x.double()
    return 2 / len(batch) * x.T @ x


def regression_minimum(task: Task) -> torch.Tensor:
    """``(P,)`` the weights of the least train loss of a linear model without bias."""
    (batch,) = task.splits["train"]
    weights: torch.Tensor = torch.linalg.lstsq(batch.x.double(), batch.y.double()).solution
    return weights[:, 0]


def _held(x: torch.Tensor, y: torch.Tensor, first: int) -> Arrays:
    return Arrays(x=x, y=y, index=torch.arange(first, first + len(x)))
