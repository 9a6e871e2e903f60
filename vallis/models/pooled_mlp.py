"""A fully connected network on images shrunk by averaging, with normalisation before each matrix if that is wished.

It is small enough for the Hessian of each of its layers to be written out, whatever the size of the images.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.models._build import ACTIVATIONS, Activation, Init, build_net, drawing, image_shape, num_outputs
from vallis.problems._checks import check_choice, check_number


@dataclass(frozen=True, kw_only=True)
class PooledMlp:
    """For images of any size; without normalisation all inputs of linear layers are as positive as the images are.

    Attributes:
        pool: images are averaged over squares of this side; rows and columns that fill none are left out.
        widths: units of each hidden layer.
        batch_norm: whether batch normalisation stands directly before each linear layer, the first one included, so
            that what a layer multiplies with its matrix has a mean near zero.
        activation: what follows each hidden layer.
        init: see `vallis.models._build.Init`.
    """

    pool: int = 4
    widths: tuple[int, ...] = (16, 16)
    batch_norm: bool = False
    activation: Activation = "relu"
    init: Init = "torch"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_number("pooled_mlp.pool", self.pool)
        for width in self.widths:
            check_number("pooled_mlp.widths", width)
        check_choice("pooled_mlp.activation", self.activation, Activation)
        check_choice("pooled_mlp.init", self.init, Init)

    @classmethod
    def tiny(cls) -> PooledMlp:
        """The cheapest settings, for tests."""
        return cls(pool=2, widths=(4,), batch_norm=True)

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        channels, height, width = image_shape(tasks, "pooled_mlp", least=self.pool)
        sizes = (channels * (height // self.pool) * (width // self.pool), *self.widths)
        outputs = num_outputs(tasks)

        def make() -> nn.Module:
            parts: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AvgPool2d(self.pool), flatten=nn.Flatten())
            for number, (before, after) in enumerate(zip(sizes, self.widths, strict=False), start=1):
                if self.batch_norm:
                    parts[f"norm{number}"] = nn.BatchNorm1d(before)
                parts[f"hidden{number}"] = nn.Linear(before, after)
                parts[f"activation{number}"] = ACTIVATIONS[self.activation]()
            if self.batch_norm:
                parts[f"norm{len(sizes)}"] = nn.BatchNorm1d(sizes[-1])
            parts["output"] = nn.Linear(sizes[-1], outputs)
            return nn.Sequential(parts)

        net = build_net(make, drawing(self.init), rng)
        for part in net.module.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.reset_parameters()
        return net
