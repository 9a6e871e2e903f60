"""A linear model on second-order features: the inputs, and the product of every two of their numbers.

Source: Huang et al. (2019), Understanding generalization through visualizations, section 2: on CIFAR-10 3,072 pixels
    and the 295,296 products of those of the image at half the side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.models._build import build_net, drawing, example_shape, image_shape, num_outputs
from vallis.problems._checks import check_number


@dataclass(frozen=True, kw_only=True)
class SecondOrder:
    """Softmax regression on ``(x, x_i x_j for i <= j)``; with inputs of D numbers and no pooling D + D (D + 1) / 2.

    Attributes:
        pooling: the products are of images ``(C, H, W)`` averaged over squares of this side; 1 takes them as they are.
    """

    pooling: int = 1

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("second_order.pooling", self.pooling)

    @classmethod
    def tiny(cls) -> SecondOrder:
        """The cheapest settings, for tests."""
        return cls()

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        """The net, whose layer has all weights.

        Raises:
            ModelError: the inputs are to be pooled and are no images, or smaller than what is pooled.
        """
        shape = example_shape(tasks, "second_order")
        num_small = math.prod(shape)
        if self.pooling > 1:
            channels, height, width = image_shape(tasks, "second_order", least=self.pooling)
            num_small = channels * (height // self.pooling) * (width // self.pooling)
        size = math.prod(shape) + num_small * (num_small + 1) // 2
        outputs = num_outputs(tasks)

        def make() -> nn.Module:
            return nn.Sequential(Products(self.pooling), nn.Linear(size, outputs))

        return build_net(make, drawing("torch"), rng)


class Products(nn.Module):
    """The numbers of an input ``(N, ...)``, and all products of two of them (or of the pooled input), ``(N, F)``."""

    def __init__(self, pooling: int) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = (F.avg_pool2d(x, self.pooling) if self.pooling > 1 else x).flatten(1)
        first, second = torch.triu_indices(small.shape[1], small.shape[1], device=x.device)
        return torch.cat([x.flatten(1), small[:, first] * small[:, second]], dim=1)
