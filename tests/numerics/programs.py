"""Networks in training mode, for the tests of programs: what each is, and what it is fed."""

from __future__ import annotations

import types
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from vallis.models import inception_small, resnet20


class Crossing(nn.Module):
    """A forward function with sizes, a sum of two ways, a slice and a method."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8, momentum=None)
        self.output = nn.Linear(36, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm(self.convolution(x)))
        h = (h + torch.tanh(h))[:, ::2]
        return self.output(h.contiguous().view(h.size(0), -1))


VECTORS, IMAGES, PICTURES = (32, 64), (32, 1, 8, 8), (6, 3, 16, 16)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "a layer alone": (lambda: nn.Linear(64, 10), VECTORS),
    "dense": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 10)
        ),
        VECTORS,
    ),
    "odd widths without biases": (
        lambda: nn.Sequential(
            nn.Linear(64, 3, bias=False), nn.Sigmoid(), nn.Linear(3, 1, bias=False), nn.Linear(1, 10)
        ),
        (7, 64),
    ),
    "every activation": (
        lambda: nn.Sequential(
            *(
                nn.Linear(64, 33),
                nn.GELU(),
                nn.Linear(33, 33),
                nn.GELU(approximate="tanh"),
                nn.Linear(33, 33),
                nn.SiLU(),
            ),
            *(nn.Linear(33, 33), nn.LeakyReLU(0.1), nn.Linear(33, 33), nn.Softplus(), nn.Linear(33, 33), nn.ELU()),
            *(nn.Linear(33, 33), nn.ReLU(inplace=True), nn.Linear(33, 10)),
        ),
        VECTORS,
    ),
    "norms": (
        lambda: nn.Sequential(
            *(nn.Linear(64, 50), nn.LayerNorm(50), nn.ReLU(), nn.Linear(50, 33), nn.BatchNorm1d(33), nn.SiLU()),
            *(nn.Linear(33, 20), nn.BatchNorm1d(20, affine=False), nn.Linear(20, 10)),
        ),
        VECTORS,
    ),
    "norms of the batch alone": (
        lambda: nn.Sequential(
            *(nn.Linear(64, 20), nn.BatchNorm1d(20, track_running_stats=False), nn.ReLU()),
            *(nn.Linear(20, 20), nn.BatchNorm1d(20, affine=False, track_running_stats=False), nn.Linear(20, 10)),
        ),
        VECTORS,
    ),
    "one number at a time": (
        lambda: nn.Sequential(nn.Linear(64, 1), nn.LeakyReLU(), nn.Linear(1, 7), nn.LeakyReLU(), nn.Linear(7, 10)),
        (1, 64),
    ),
    "dropout": (
        lambda: nn.Sequential(
            nn.Linear(64, 50), nn.ReLU(), nn.Dropout(0.3), nn.Linear(50, 20), nn.Dropout(0.0), nn.Linear(20, 10)
        ),
        VECTORS,
    ),
    "more axes": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (8, 8)),
            nn.Linear(8, 5),
            nn.ReLU(),
            nn.Linear(5, 5, bias=False),
            nn.Flatten(),
            nn.Linear(40, 10),
        ),
        VECTORS,
    ),
    "convolutions": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1, groups=4, bias=False), nn.GroupNorm(4, 16), nn.ReLU(), nn.AvgPool2d(2)),
            *(nn.Flatten(), nn.Linear(64, 10)),
        ),
        IMAGES,
    ),
    "a forward function": (Crossing, IMAGES),
    "a residual network": (lambda: resnet20.network(3, 10, 0.1), PICTURES),
    "inception": (lambda: inception_small.network(3, 10, True, 0.2), PICTURES),
}


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x))


class Lucky(nn.Module):
    """Draws in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import random

        return self.layer(x) * random.random()


class Counting(nn.Module):
    """Changes what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = self.calls + 1
        return self.layer(x)


class Thrice(nn.Module):
    """A value that is read three times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.layer(x)
        return torch.cat([h, h * 2, h + 1], dim=1)


class Idle(nn.Module):
    """A layer that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Branching(nn.Module):
    """Decides by what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum() > 0 else x


class Writing(nn.Module):
    """Writes into a value in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.layer(x), inplace=True)


class Turning(nn.Module):
    """Reads an attribute that is a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).mT


class Scaling(nn.Module):
    """Takes a number beside its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return self.layer(x) * scale


def hooked() -> nn.Module:
    module = nn.Linear(4, 4)
    module.register_forward_hook(lambda *_: None)
    return module


def replaced() -> nn.Module:
    """Cuts off what no few random examples reach."""
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    module[1].forward = types.MethodType(lambda self, x: F.relu(x).clamp(max=1e3), module[1])
    return module


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "recurrent": (lambda: nn.LSTM(4, 4), "no kernel"),
    "branching": (Branching, "traced"),
    "tied": (Tied, "twice"),
    "lucky": (Lucky, "at every call"),
    "counting": (Counting, "changes what"),
    "thrice": (Thrice, "3 times"),
    "turning": (Turning, "an attribute that may be a tensor"),
    "scaling": (Scaling, "more than one input"),
    "idle": (Idle, "not used"),
    "writing": (Writing, "writes"),
    "hooked": (hooked, "hooks"),
    "replaced": (replaced, "1 was given another forward function"),
    "embedding": (lambda: nn.Embedding(4, 4), "no kernel"),
    "reflecting": (lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")), "pads by reflect"),
    "lopsided": (lambda: nn.Sequential(nn.Conv2d(1, 1, 2, padding="same")), "one side"),
    "random pooling": (lambda: nn.Sequential(nn.Linear(4, 4), nn.RReLU()), "no kernel"),
}
