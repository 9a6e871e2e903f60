"""The small AlexNet of Zhang et al. 2017: 1,387,786 parameters on images of 3x28x28 and ten classes."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.models._build import Init, build_net, drawing, image_shape, num_outputs
from vallis.problems._checks import check_choice, check_share

CHANNELS = 64
DENSE = (384, 192)


@dataclass(frozen=True, kw_only=True)
class AlexnetSmall:
    """Two blocks of convolution 5x5, max pooling 3x3 by two and local response normalisation, then three dense layers.

    The paper does not print the constants of the normalisation; these are the ones of the tutorial network that it
    resembles (nine channels, strength 0.001 / 9 a channel, power 0.75).

    Attributes:
        dropout: the probability of dropping a unit of the two hidden dense layers in training.
        init: see `vallis.models._build.Init`; the paper does not say.
    """

    dropout: float = 0.0
    init: Init = "glorot"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_share("alexnet_small.dropout", self.dropout, zero=True, one=False)
        check_choice("alexnet_small.init", self.init, Init)

    @classmethod
    def tiny(cls) -> AlexnetSmall:
        """The cheapest settings, for tests."""
        return cls()

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        channels, height, width = image_shape(tasks, "alexnet_small")
        outputs = num_outputs(tasks)

        def make() -> nn.Module:
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            for number, before in enumerate((channels, CHANNELS), start=1):
                parts[f"convolution{number}"] = nn.Conv2d(before, CHANNELS, 5, padding=2)
                parts[f"activation{number}"] = nn.ReLU()
                parts[f"pool{number}"] = nn.MaxPool2d(3, stride=2, padding=1)
                parts[f"norm{number}"] = nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)
            parts["flatten"] = nn.Flatten()
            sizes = (CHANNELS * math.ceil(height / 4) * math.ceil(width / 4), *DENSE)
            for number, (before, units) in enumerate(zip(sizes, DENSE, strict=False), start=1):
                parts[f"hidden{number}"] = nn.Linear(before, units)
                parts[f"activation{number + 2}"] = nn.ReLU()
                parts[f"dropout{number}"] = nn.Dropout(self.dropout)
            parts["output"] = nn.Linear(DENSE[-1], outputs)
            return nn.Sequential(parts)

        return build_net(make, drawing(self.init), rng)
