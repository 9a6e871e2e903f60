"""Random patterns, and a perceptron whose weights are plus or minus one: there is no gradient to go down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from vallis.core.capture import layers_of
from vallis.core.data import Arrays
from vallis.core.errors import ModelError
from vallis.core.losses import BinaryCrossEntropy
from vallis.core.rng import Rng
from vallis.core.types import Net, Task
from vallis.testing.toys.models import inputs


@dataclass(frozen=True, kw_only=True)
class SignPatterns:
    """Patterns ``(M, N)`` of random signs with random labels 0 or 1.

    Attributes:
        num_inputs: N; odd, so that no sum of N signs is zero.
        load: M / N, commonly alpha; above 0.833 no binary weights solve it.
    """

    version: ClassVar[int] = 1

    num_inputs: int = 101
    load: float = 0.45

    def build(self, rng: Rng) -> tuple[Task, ...]:
        size = round(self.load * self.num_inputs)
        generator = rng.child("patterns").torch()
        x = 2.0 * torch.randint(2, (size, self.num_inputs), generator=generator) - 1.0
        y = torch.randint(2, (size,), generator=generator).float()
        data = Arrays(x=x, y=y, index=torch.arange(size))
        return (Task(name="sign_patterns", splits={"train": data}, loss=BinaryCrossEntropy()),)


class Signs(nn.Module):
    """``w . x / sqrt(N)`` for weights of plus or minus one."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, N)`` to one logit each, ``(B,)``."""
        logits: torch.Tensor = x @ self.weight / x.shape[1] ** 0.5
        return logits


@dataclass(frozen=True, kw_only=True)
class BinaryPerceptron:
    """A perceptron with one weight of plus or minus one an input; it starts at random signs."""

    version: ClassVar[int] = 1

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        if tasks[0].loss.kind != "binary":
            raise ModelError("a task with two classes and one logit was required, another came: use another model")
        num_inputs = inputs(tasks, 2).shape[1]
        signs = torch.randint(2, (num_inputs,), generator=rng.child("weights").torch())
        module = Signs(2.0 * signs - 1.0).eval()
        return Net(module=module, layers=layers_of(module), traits=frozenset({"binary", "feedforward"}))
