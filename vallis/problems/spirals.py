"""Two spirals in the plane, one a class: a small task whose decision boundary can be drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from vallis.core.data import Arrays
from vallis.core.errors import SettingsError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.problems._checks import check_choice, check_number, check_share

Shape = Literal["noiseless", "swiss_roll"]
Losses = Literal["cross_entropy", "binary_cross_entropy"]
_LOSSES: Mapping[str, type[Loss]] = {"cross_entropy": CrossEntropy, "binary_cross_entropy": BinaryCrossEntropy}


@dataclass(frozen=True, kw_only=True)
class Spirals:
    """Points ``(N, 2)`` of two classes; the second class is the first, mirrored at the origin.

    Both settings of Huang et al. 2019: ``shape="noiseless", train_fraction=0.33, scale=1`` is the minefield figure (132
    of 400 points to train), ``shape="swiss_roll", noise_std=0.5, train_fraction=0.5, scale=1`` the swiss roll.

    Attributes:
        shape: "noiseless" is ``5 sqrt(a) (cos a, sin a)`` for N equally spaced angles a in [0, 3 pi); "swiss_roll" is
            ``1.5 a (-cos a, sin a)`` plus Gaussian noise, for a = sqrt(u) 10 pi / 3 with u uniform in (0, 1).
        num_per_class: N.
        noise_std: standard deviation of the noise in each coordinate before scaling (swiss roll only).
        train_fraction: the share that becomes "train"; the rest is "test".
        scale: every coordinate is multiplied by it; 0.1 brings the points to within 1.6 of the origin.
        loss: "cross_entropy" (two logits) or "binary_cross_entropy" (one).
    """

    shape: Shape = "noiseless"
    num_per_class: int = 200
    noise_std: float = 0.5
    train_fraction: float = 0.5
    scale: float = 0.1
    loss: Losses = "cross_entropy"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("spirals.num_per_class", self.num_per_class, least=2)
        check_share("spirals.train_fraction", self.train_fraction, zero=False, one=False)
        check_choice("spirals.shape", self.shape, Shape)
        check_choice("spirals.loss", self.loss, Losses)
        if not (self.noise_std >= 0 and self.scale > 0):
            raise SettingsError(
                "spirals.noise_std must not be negative and spirals.scale must be positive, "
                f"{self.noise_std} and {self.scale} came: change them"
            )

    @classmethod
    def tiny(cls) -> Spirals:
        """The cheapest settings, for tests."""
        return cls(num_per_class=20)

    def build(self, rng: Rng) -> tuple[Task, ...]:
        if self.shape == "noiseless":
            curve = noiseless(self.num_per_class)
        else:
            curve = swiss_roll(self.num_per_class, self.noise_std, rng.child("points"))
        x = (torch.cat([curve, -curve]) * self.scale).to(torch.float32)
        y = torch.arange(2).repeat_interleave(self.num_per_class)
        num_train = min(max(int(self.train_fraction * len(y)), 1), len(y) - 1)
        order = torch.randperm(len(y), generator=rng.child("split").torch())
        splits = {
            name: Arrays(x=x[index], y=y[index], index=index)
            for name, index in (("train", order[:num_train]), ("test", order[num_train:]))
        }
        return (Task(name="spirals", splits=splits, loss=_LOSSES[self.loss]()),)


def noiseless(num_points: int) -> torch.Tensor:
    """``(num_points, 2)`` float64 points of one spiral, equally spaced in angle."""
    angle = torch.arange(num_points, dtype=torch.float64) * (1.5 * 2 * math.pi / num_points)
    return 5 * angle.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


def swiss_roll(num_points: int, noise_std: float, rng: Rng) -> torch.Tensor:
    """``(num_points, 2)`` float64 noisy points of one arm, uniform in its area."""
    generator = rng.torch()
    angle = torch.rand(num_points, generator=generator, dtype=torch.float64).sqrt() * (600 * 2 * math.pi / 360)
    noise = torch.randn(num_points, 2, generator=generator, dtype=torch.float64) * noise_std
    return 1.5 * angle[:, None] * torch.stack([-angle.cos(), angle.sin()], dim=1) + noise
