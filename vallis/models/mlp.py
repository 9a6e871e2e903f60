"""A fully connected network: hidden layers of given widths, one activation, dropout after each."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.models._build import ACTIVATIONS, Activation, Init, build_net, drawing, example_shape, num_outputs
from vallis.problems._checks import check_choice, check_number, check_share


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """Flattens its inputs. With ``widths=(512,)`` and ``(512, 512, 512)`` it is an MLP of Zhang et al. 2017.

    Attributes:
        widths: units of each hidden layer; ``()`` is a linear model.
        activation: what follows each hidden layer; "identity" makes a deep linear network.
        dropout: the probability of dropping a hidden unit in training.
        bias: whether layers have biases.
        init: see `vallis.models._build.Init`.
    """

    widths: tuple[int, ...] = (128, 128)
    activation: Activation = "relu"
    dropout: float = 0.0
    bias: bool = True
    init: Init = "torch"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for width in self.widths:
            check_number("mlp.widths", width)
        check_choice("mlp.activation", self.activation, Activation)
        check_choice("mlp.init", self.init, Init)
        check_share("mlp.dropout", self.dropout, zero=True, one=False)

    @classmethod
    def tiny(cls) -> Mlp:
        """The cheapest settings, for tests."""
        return cls(widths=(8,))

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        sizes = (math.prod(example_shape(tasks, "mlp")), *self.widths)
        outputs = num_outputs(tasks)

        def make() -> nn.Module:
            parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
            for number, (before, width) in enumerate(zip(sizes, self.widths, strict=False), start=1):
                parts[f"hidden{number}"] = nn.Linear(before, width, bias=self.bias)
                parts[f"activation{number}"] = ACTIVATIONS[self.activation]()
                parts[f"dropout{number}"] = nn.Dropout(self.dropout)
            parts["output"] = nn.Linear(sizes[-1], outputs, bias=self.bias)
            return nn.Sequential(parts)

        return build_net(make, drawing(self.init), rng)
