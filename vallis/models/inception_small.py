"""The small Inception of Zhang et al. 2017: 1,649,402 parameters, batch normalisation not counted, on ten classes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.models._build import Init, build_net, drawing, image_shape, num_outputs
from vallis.problems._checks import check_choice, check_share

# Channels of the 1x1 and the 3x3 path of each inception block; a single number is a downsampling block.
STEM = 96
BLOCKS: tuple[tuple[int, ...], ...] = (
    (32, 32),
    (32, 48),
    (80,),
    (112, 48),
    (96, 64),
    (80, 80),
    (48, 96),
    (96,),
    (176, 160),
    (176, 160),
)


@dataclass(frozen=True, kw_only=True)
class InceptionSmall:
    """A stem, ten blocks of which two halve the image, a mean over what is left of it, and one dense layer.

    Attributes:
        batch_norm: whether every convolution is followed by batch normalisation ("Inception" and "w/o BatchNorm").
        dropout: the probability of dropping an input of the dense layer in training.
        init: see `vallis.models._build.Init`; the paper does not say.
    """

    batch_norm: bool = True
    dropout: float = 0.0
    init: Init = "glorot"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_share("inception_small.dropout", self.dropout, zero=True, one=False)
        check_choice("inception_small.init", self.init, Init)

    @classmethod
    def tiny(cls) -> InceptionSmall:
        """The cheapest settings, for tests."""
        return cls()

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        channels, _, _ = image_shape(tasks, "inception_small")
        outputs = num_outputs(tasks)
        return build_net(lambda: network(channels, outputs, self.batch_norm, self.dropout), drawing(self.init), rng)


def network(channels: int, outputs: int, batch_norm: bool, dropout: float) -> nn.Module:
    """The module, from images ``(N, channels, H, W)`` to ``(N, outputs)``."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=convolution(channels, STEM, 3, batch_norm))
    before = STEM
    for number, widths in enumerate(BLOCKS, start=1):
        if len(widths) == 1:
            paths = [convolution(before, widths[0], 3, batch_norm, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]
            before += widths[0]
        else:
            paths = [convolution(before, width, size, batch_norm) for width, size in zip(widths, (1, 3), strict=True)]
            before = sum(widths)
        parts[f"block{number}"] = Beside(paths)
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["dropout"] = nn.Dropout(dropout)
    parts["output"] = nn.Linear(before, outputs)
    return nn.Sequential(parts)


class Beside(nn.ModuleList):
    """Paths that all read the same images; what they return is joined along the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to the joined outputs."""
        return torch.cat([path(x) for path in self], dim=1)


def convolution(before: int, width: int, size: int, batch_norm: bool, stride: int = 1) -> nn.Module:
    """The paper's convolution module: convolution with bias, batch normalisation, ReLU."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["convolution"] = nn.Conv2d(before, width, size, stride=stride, padding=size // 2)
    if batch_norm:
        parts["norm"] = nn.BatchNorm2d(width)
    parts["activation"] = nn.ReLU()
    return nn.Sequential(parts)
