"""The networks that every benchmark looks at, trained on the digits from fixed seeds, and the data of both sides."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vallis import Solution

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".benchmarks"

Batches = list[tuple[torch.Tensor, torch.Tensor]]
_EXAMPLES_A_STEP, _LEARNING_RATE = 128, 1e-3


@dataclass(frozen=True)
class Fixture:
    """A network and how long it is trained: Adam at 1e-3, 128 examples a step, seed 0.

    Attributes:
        side: of the digits that it sees, enlarged from 8 where it is more.
    """

    name: str
    words: str
    make: Callable[[], nn.Module]
    num_epochs: int
    is_image: bool = False
    side: int = 8


def tanh_network(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))


def convolutional_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def relu_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10))


def pooling_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(784, 10),
    )


FIXTURES = {
    fixture.name: fixture
    for fixture in (
        Fixture("D-MLP", "64-256-256-10, tanh, 20 epochs", functools.partial(tanh_network, 256), 20),
        Fixture("D-MLP-32", "64-32-32-10, tanh, 20 epochs", functools.partial(tanh_network, 32), 20),
        Fixture(
            "D-CNN",
            "3x3 convolutions 1-16-32-32, padding 1, the last two of stride 2, ReLU, linear 128-10, 15 epochs",
            convolutional_network,
            15,
            is_image=True,
        ),
        Fixture("P-MLP", "784-50-50-10, ReLU, digits enlarged to 28x28, 2 epochs", relu_network, 2, side=28),
        Fixture(
            "P-CNN",
            "3x3 convolutions 1-8-16, padding 1, each with ReLU and pooling by 2, linear 784-10, "
            "digits enlarged to 28x28, 2 epochs",
            pooling_network,
            2,
            is_image=True,
            side=28,
        ),
    )
}


@functools.cache
def digits(is_image: bool, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """``(1797, side**2)`` or ``(1797, 1, side, side)`` pixels in [0, 1], and ``(1797,)`` classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    if side > 8:
        x = nn.functional.interpolate(x, size=(side, side), mode="bilinear")
    return (x if is_image else x.flatten(1)), torch.tensor(found.target)


@functools.cache
def trained(name: str) -> nn.Module:
    """The trained network in eval mode, from the cache where it lies there; copy it before you change it."""
    fixture, file = FIXTURES[name], CACHE / "fixtures" / f"{name}.safetensors"
    module = fixture.make()
    if file.is_file():
        module.load_state_dict(load_file(file))
        return module.eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = fixture.make()
    _train(module, fixture)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(module.state_dict()), file)
    return module.eval()


def _train(module: nn.Module, fixture: Fixture) -> None:
    x, y = digits(fixture.is_image, fixture.side)
    optimizer = torch.optim.Adam(module.parameters(), _LEARNING_RATE)
    order = torch.Generator().manual_seed(0)
    for _ in range(fixture.num_epochs):
        for part in torch.randperm(len(x), generator=order).split(_EXAMPLES_A_STEP):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x[part]), y[part]).backward()
            optimizer.step()


@dataclass(frozen=True)
class Setting:
    """A fixture, and in batches of which size both sides see the digits (599 divides 1797, 512 leaves 261 over)."""

    fixture: str
    batch_size: int

    @property
    def name(self) -> str:
        return f"{self.fixture}, batches of {self.batch_size}"

    def module(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A network of one's own, without gradients from earlier use."""
        return copy.deepcopy(trained(self.fixture)).to(dtype)

    def data(self, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = digits(FIXTURES[self.fixture].is_image, FIXTURES[self.fixture].side)
        return x.to(dtype), y

    def batches(self, dtype: torch.dtype = torch.float32) -> Batches:
        x, y = self.data(dtype)
        return list(zip(x.split(self.batch_size), y.split(self.batch_size), strict=True))

    def solution(self) -> Solution:
        return Solution.of(self.module(), nn.CrossEntropyLoss(), train=self.batches())

    @property
    def num_parameters(self) -> int:
        return sum(value.numel() for value in trained(self.fixture).parameters())

    @property
    def loss(self) -> float:
        x, y = self.data()
        with torch.no_grad():
            return float(nn.functional.cross_entropy(trained(self.fixture)(x), y))

    @property
    def fingerprint(self) -> str:
        """Names the weights: what was computed of other weights is not read from the cache."""
        held = hashlib.sha256()
        for value in trained(self.fixture).state_dict().values():
            held.update(value.numpy().tobytes())
        return held.hexdigest()[:12]
