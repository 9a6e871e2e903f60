"""A small convolutional network: convolution, activation and pooling by two, a few times, then one linear layer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import nn

from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.models._build import ACTIVATIONS, Activation, Init, build_net, drawing, image_shape, num_outputs
from vallis.problems._checks import check_choice, check_number, check_share

Pool = Literal["max", "average"]


@dataclass(frozen=True, kw_only=True)
class Convnet:
    """For images of any size; each of its blocks halves height and width, rounding down.

    Attributes:
        channels: output channels of each convolution.
        kernel_size: side of the filters, odd; the convolutions keep the size of the image.
        stride: of the first convolution; 2 halves height and width once more, rounding up.
        activation: what follows each convolution.
        pool: "max", or "average", with which a net of smooth activations is smooth.
        batch_norm: whether each convolution is followed by batch normalisation.
        dropout: the probability of dropping an input of the last layer in training.
        init: see `vallis.models._build.Init`.
    """

    channels: tuple[int, ...] = (16, 32)
    kernel_size: int = 3
    stride: int = field(default=1, metadata={"was": 1})
    activation: Activation = "relu"
    pool: Pool = "max"
    batch_norm: bool = False
    dropout: float = 0.0
    init: Init = "torch"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("the number of convnet.channels", len(self.channels))
        for channels in self.channels:
            check_number("convnet.channels", channels)
        check_choice("convnet.kernel_size", self.kernel_size, Literal[1, 3, 5, 7])
        check_number("convnet.stride", self.stride)
        check_choice("convnet.activation", self.activation, Activation)
        check_choice("convnet.pool", self.pool, Pool)
        check_choice("convnet.init", self.init, Init)
        check_share("convnet.dropout", self.dropout, zero=True, one=False)

    @classmethod
    def tiny(cls) -> Convnet:
        """The cheapest settings, for tests."""
        return cls(channels=(2, 4))

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        shrunk = 2 ** len(self.channels)
        before, *sides = image_shape(tasks, "convnet", least=self.stride * (shrunk - 1) + 1)
        height, width = (-(-side // self.stride) // shrunk for side in sides)
        outputs = num_outputs(tasks)

        def make() -> nn.Module:
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            pool = nn.MaxPool2d if self.pool == "max" else nn.AvgPool2d
            for number, (inputs, channels) in enumerate(
                zip((before, *self.channels), self.channels, strict=False), start=1
            ):
                parts[f"convolution{number}"] = nn.Conv2d(
                    inputs,
                    channels,
                    self.kernel_size,
                    stride=self.stride if number == 1 else 1,
                    padding=self.kernel_size // 2,
                )
                if self.batch_norm:
                    parts[f"norm{number}"] = nn.BatchNorm2d(channels)
                parts[f"activation{number}"] = ACTIVATIONS[self.activation]()
                parts[f"pool{number}"] = pool(2)
            parts["flatten"] = nn.Flatten()
            parts["dropout"] = nn.Dropout(self.dropout)
            parts["output"] = nn.Linear(self.channels[-1] * height * width, outputs)
            return nn.Sequential(parts)

        return build_net(make, drawing(self.init), rng)
