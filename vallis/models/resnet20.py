"""A pre-activation ResNet of 20 layers for small images: 269,722 parameters on three channels and ten classes.

The variant of Huang et al. 2019: three stages of three residual units with 16, 32 and 64 channels; shortcuts that pool
and pad instead of projecting; leaky ReLU; the first unit shares its normalisation and activation with its shortcut.
Convolutions start with weights of variance 2 / (9 * output channels); of the dense layer the paper's code says nothing
that is known here, and it starts as torch's own.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.models._build import build_net, drawing, image_shape, num_outputs

WIDTHS = (16, 32, 64)
UNITS = 3


@dataclass(frozen=True, kw_only=True)
class Resnet20:
    """For images of any size.

    Attributes:
        negative_slope: of the leaky ReLU.
    """

    negative_slope: float = 0.1

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.negative_slope) and self.negative_slope >= 0):
            raise SettingsError(
                f"resnet20.negative_slope must be a finite number, at least 0, {self.negative_slope} came: give 0.1"
            )

    @classmethod
    def tiny(cls) -> Resnet20:
        """The cheapest settings, for tests."""
        return cls()

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        channels, _, _ = image_shape(tasks, "resnet20")
        outputs = num_outputs(tasks)
        convolution, dense = drawing("he_out"), drawing("torch")

        def draw(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
            (convolution if isinstance(layer, nn.Conv2d) else dense)(layer, generator)

        return build_net(lambda: network(channels, outputs, self.negative_slope), draw, rng)


def network(channels: int, outputs: int, negative_slope: float) -> nn.Module:
    """The module, from images ``(N, channels, H, W)`` to ``(N, outputs)``."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(convolution=_convolution(channels, WIDTHS[0]))
    before = WIDTHS[0]
    for stage, width in enumerate(WIDTHS, start=1):
        for unit in range(1, UNITS + 1):
            parts[f"unit{stage}_{unit}"] = Unit(before, width, negative_slope, shared=(stage, unit) == (1, 1))
            before = width
    parts["norm"] = _norm(before)
    parts["activation"] = nn.LeakyReLU(negative_slope)
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["output"] = nn.Linear(before, outputs)
    return nn.Sequential(parts)


class Unit(nn.Module):
    """``shortcut(x) + conv(act(norm(conv(act(norm(x))))))``; where it widens, it halves the image.

    Args:
        before: channels that come in.
        width: channels that go out.
        negative_slope: of the activation.
        shared: the shortcut starts after the first activation instead of before the first normalisation.
    """

    def __init__(self, before: int, width: int, negative_slope: float, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        self.norm1 = _norm(before)
        self.convolution1 = _convolution(before, width, stride=2 if width > before else 1)
        self.norm2 = _norm(width)
        self.convolution2 = _convolution(width, width)
        self.activation = nn.LeakyReLU(negative_slope)
        self.padding = (width - before) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, before, H, W)`` to ``(N, width, H', W')``."""
        active = self.activation(self.norm1(x))
        shortcut = active if self.shared else x
        if self.padding:
            # Rounding up, as the strided convolution does: images of odd sides keep one size on both ways.
            shortcut = F.avg_pool2d(shortcut, 2, ceil_mode=True)
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.padding, self.padding))
        inner: torch.Tensor = self.convolution2(self.activation(self.norm2(self.convolution1(active))))
        return inner + shortcut


def _convolution(before: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)  # a decay of 0.9 in the terms of the paper's code
