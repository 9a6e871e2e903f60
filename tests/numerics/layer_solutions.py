"""Networks whose layers are used in every way that a layer can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.numerics.solutions import NUM_EXAMPLES, built, classes, held, random
from vallis.core.losses import CrossEntropy
from vallis.core.types import Solution


def rectified(batch_size: int = 5, num_examples: int = NUM_EXAMPLES) -> Solution:
    """Piecewise linear, with three layers."""
    module = built(lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))
    for part in (module[0], module[2]):
        part.bias.data += 0.5  # few units are dead
    return held(module, random(num_examples, 3).abs(), classes(num_examples), batch_size=batch_size)


def in_place() -> Solution:
    """Every activation writes over what came before."""

    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu_(self.first(x))
            return self.third(self.second(hidden).add_(hidden).tanh_()).mul_(1.5)

    return held(built(Written), random(NUM_EXAMPLES, 3), classes(NUM_EXAMPLES))


def convolutions() -> Solution:
    """Strides, padding, dilation, batch normalisation, a residual sum and a pool."""

    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 2, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(2)
            self.second = nn.Conv2d(2, 2, (3, 2), stride=(2, 1), dilation=(1, 2), padding=1, padding_mode="circular")
            self.grouped = nn.Conv2d(2, 2, 1, groups=2)
            self.head = nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu(self.norm(self.first(x)))
            hidden = self.second(hidden)
            return self.head((hidden + self.grouped(hidden)).mean((2, 3)))

    module = built(Convolved)
    assert isinstance(module.norm, nn.BatchNorm2d)
    assert module.norm.running_mean is not None
    assert module.norm.running_var is not None
    module.norm.running_mean.copy_(random(2))
    module.norm.running_var.copy_(random(2).exp())
    return held(module, random(NUM_EXAMPLES, 1, 5, 4), classes(NUM_EXAMPLES))


def sequence_convolution() -> Solution:
    module = built(lambda: nn.Sequential(nn.Conv1d(2, 3, 2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(6, 3)))
    return held(module, random(NUM_EXAMPLES, 2, 5), classes(NUM_EXAMPLES))


def called_twice() -> Solution:
    """The same layer twice in a row."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.middle, self.head = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.tanh(self.middle(input=torch.tanh(self.middle(x)))))

    return held(built(Twice), random(NUM_EXAMPLES, 3), classes(NUM_EXAMPLES))


class Language(nn.Module):
    """Each token sees those before it; the scores are ``(N, C, T)``."""

    def __init__(self, turned: bool = False) -> None:
        super().__init__()
        self.turned = turned
        self.mix, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.turned:
            hidden = torch.tanh(self.mix(x.transpose(0, 1))).cumsum(0)
            return self.head(hidden).permute(1, 2, 0)
        return self.head(torch.tanh(self.mix(x)).cumsum(1)).transpose(1, 2)


def language(turned: bool = False) -> Solution:
    """Four tokens of which some do not count; time comes first inside if turned."""
    y = classes(NUM_EXAMPLES, 4)
    y[random(NUM_EXAMPLES, 4, seed=3) > 0.5] = -100
    y[5:10] = -100
    return held(built(lambda: Language(turned)), random(NUM_EXAMPLES, 4, 3), y)


def flat_rows() -> Solution:
    """All tokens of a batch as rows of one matrix."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.tanh(self.mix(x.reshape(-1, 3))).view(*x.shape[:2], 4)
            return self.head(hidden.sum(1))

    return held(built(Flat), random(NUM_EXAMPLES, 4, 3), classes(NUM_EXAMPLES))


LAYERED: dict[str, Callable[[], Solution]] = {
    "rectified": rectified,
    "in_place": in_place,
    "convolutions": convolutions,
    "sequence_convolution": sequence_convolution,
    "called_twice": called_twice,
    "language": language,
    "language_turned": lambda: language(turned=True),
    "flat_rows": flat_rows,
}


class Odd(nn.Module):
    """Layers that look affine and are not, each in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.embedding.weight
        self.hooked, self.elsewhere, self.mixed, self.before = (nn.Linear(4, 4) for _ in range(4))
        self.after = nn.Linear(4, 4)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.hooked.register_forward_hook(lambda module, given, z: z + 0.1 * (module.weight.sum() * given[0]))
        self.idle = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(x)
        for layer in (self.tied, self.hooked, self.normed, self.before):
            hidden = torch.tanh(layer(hidden))
        hidden = nn.functional.linear(hidden, self.elsewhere.weight)
        # Its rows are unit vectors of the width, so there is no axis of examples.
        hidden = hidden + self.mixed(torch.eye(4, dtype=hidden.dtype)[:3]).sum()
        # The rows of what comes before the flip act on two examples each, those after it on one.
        return hidden + 0.1 * self.after(hidden.flip(0) + hidden)


def odd() -> Solution:
    x: Any = classes(NUM_EXAMPLES, num_classes=4)
    return held(built(Odd), x, classes(NUM_EXAMPLES, num_classes=4), loss=CrossEntropy())
