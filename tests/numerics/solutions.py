"""Small solutions with everything awkward in them, and a loss that is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vallis.core.data import Arrays
from vallis.core.functional import preserving_global_state
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from vallis.core.own import coordinates
from vallis.core.own_loss import Picked
from vallis.core.types import Net, Solution, Task

NUM_EXAMPLES = 17


def held(
    module: nn.Module,
    x: Any,
    y: Any,
    loss: Loss | None = None,
    batch_size: int = 5,
    test: tuple[Any, Any] | None = None,
    training: bool = False,
) -> Solution:
    """The module, in eval mode unless `training`, where it stands."""
    module.train(training)
    params, buffers = coordinates(module)
    size = len(y)
    splits = {"train": Arrays(x=x, y=y, index=torch.arange(size), batch_size=batch_size)}
    if test is not None:
        index = torch.arange(size, size + len(test[1]))
        splits["test"] = Arrays(x=test[0], y=test[1], index=index, batch_size=batch_size)
    task = Task(name="toy", splits=splits, loss=loss or CrossEntropy())
    return Solution(net=Net(module=module), params=params, buffers=buffers, tasks=(task,))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(*shape: int, num_classes: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randint(num_classes, shape, generator=torch.Generator().manual_seed(seed))


def built(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The module with initial weights from a seed, all biases moved away from zero."""
    with preserving_global_state():
        torch.default_generator.manual_seed(seed)
        module = make()
        with torch.no_grad():
            for value in module.parameters():
                value.add_(0.1 * torch.randn_like(value))
    return module


def mlp(batch_size: int = 5, double: bool = False, num_examples: int = NUM_EXAMPLES) -> Solution:
    """61 parameters."""
    module = built(lambda: nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)))
    x = random(num_examples, 2)
    return held(module.double() if double else module, x.double() if double else x, classes(num_examples),
                batch_size=batch_size)  # fmt: skip


def dead_relu() -> Solution:
    """Half of the hidden units never fire: whole rows of the Hessian are zero."""
    module = built(lambda: nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3)))
    with torch.no_grad():
        module[0].bias[:3] = -100.0
    return held(module, random(NUM_EXAMPLES, 2), classes(NUM_EXAMPLES))


class Tied(nn.Module):
    """One matrix there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = nn.Linear(3, 3), nn.Linear(3, 3)
        self.back.weight = self.there.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.back(torch.tanh(self.there(x)))


def tied() -> Solution:
    return held(built(Tied), random(NUM_EXAMPLES, 3), classes(NUM_EXAMPLES))


def batch_norm(training: bool = False) -> Solution:
    module = built(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))
    )
    module[1].running_mean.copy_(random(3))
    module[1].running_var.copy_(random(3).exp())
    return held(module, random(NUM_EXAMPLES, 1, 4, 4), classes(NUM_EXAMPLES), training=training)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(2, 2, batch_first=True), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.memory(x)[0][:, -1])


def lstm() -> Solution:
    return held(built(Recurrent), random(NUM_EXAMPLES, 3, 2), classes(NUM_EXAMPLES), batch_size=16)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 2, dropout=0.1, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x).mean(1))


def transformer() -> Solution:
    return held(built(Attention), random(NUM_EXAMPLES, 3, 4), classes(NUM_EXAMPLES), batch_size=16)


def frozen() -> Solution:
    module = built(lambda: nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3)))
    module[0].weight.requires_grad_(False)
    return held(module, random(NUM_EXAMPLES, 2), classes(NUM_EXAMPLES))


class Routed(nn.Module):
    """Uses one of two layers, by the first number of the batch, and a third never."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.idle = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.one(x) if float(x[0, 0]) > 0 else self.other(x))


def unused() -> Solution:
    return held(built(Routed), random(NUM_EXAMPLES, 2), classes(NUM_EXAMPLES))


@dataclass
class Returned:
    hidden: torch.Tensor
    logits: torch.Tensor


class Tokens(nn.Module):
    """A tiny language model that returns a dataclass; its scores are ``(N, C, T)``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> Returned:
        hidden = torch.tanh(self.embedding(x).cumsum(1))
        return Returned(hidden=hidden, logits=self.head(hidden).transpose(1, 2))


def tokens() -> Solution:
    """Batches with different numbers of counted tokens, one with none."""
    x = classes(NUM_EXAMPLES, 4, num_classes=5)
    y = classes(NUM_EXAMPLES, 4, num_classes=5, seed=2)
    y[random(NUM_EXAMPLES, 4, seed=3) > 0.5] = -100
    y[5:10] = -100
    return held(built(Tokens), x, y, loss=Picked(loss=CrossEntropy(label_smoothing=0.1)))


def regression() -> Solution:
    module = built(lambda: nn.Sequential(nn.Linear(2, 5), nn.Softplus(), nn.Linear(5, 2)))
    return held(module, random(NUM_EXAMPLES, 2), random(NUM_EXAMPLES, 2, seed=4), loss=SquaredError())


def binary() -> Solution:
    module = built(lambda: nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)))
    return held(module, random(NUM_EXAMPLES, 2), classes(NUM_EXAMPLES, num_classes=2), loss=BinaryCrossEntropy())


def one_parameter() -> Solution:
    module = built(lambda: nn.Linear(1, 1, bias=False))
    return held(module, random(NUM_EXAMPLES, 1), random(NUM_EXAMPLES, 1, seed=4), loss=SquaredError())


def one_example() -> Solution:
    return mlp(num_examples=1)


AWKWARD: dict[str, Callable[[], Solution]] = {
    "mlp": mlp,
    "dead_relu": dead_relu,
    "tied": tied,
    "batch_norm": batch_norm,
    "batch_norm_training": lambda: batch_norm(training=True),
    "lstm": lstm,
    "transformer": transformer,
    "frozen": frozen,
    "unused": unused,
    "tokens": tokens,
    "regression": regression,
    "binary": binary,
    "one_parameter": one_parameter,
    "one_example": one_example,
}
