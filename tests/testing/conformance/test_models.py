from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from vallis.core.rng import Rng
from vallis.core.types import Layer, Net, Task
from vallis.testing.awkward.binary_perceptron import BinaryPerceptron
from vallis.testing.awkward.graphs import GraphNet
from vallis.testing.conformance import models
from vallis.testing.conformance.parts import Broken
from vallis.testing.toys.models import LinearModel, TinyConvnet, TinyMlp, as_net

GOOD = (TinyMlp(dropout=0.2), TinyConvnet(), LinearModel(), BinaryPerceptron(), GraphNet())


@pytest.mark.parametrize("check", models.CHECKS)
@pytest.mark.parametrize("part", GOOD)
def test_the_toys_conform(part: Any, check: str) -> None:
    models.CHECKS[check](part)


class Noisy(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.rand(())


class Counting(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x)


class Mixing(torch.nn.Linear):
    """Lets examples of one batch see each other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - x.mean(0))


class Exploding(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * torch.inf


class Unreached(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)
        self.spare = torch.nn.Parameter(torch.zeros(1))


@dataclass(frozen=True, kw_only=True)
class Sabotaged:
    """A model with one thing wrong."""

    version: ClassVar[int] = 1
    how: str

    def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
        good = TinyMlp().build(tasks, rng)
        return getattr(self, self.how)(good)  # type: ignore[no-any-return]

    def random_weights(self, good: Net) -> Net:
        return as_net(torch.nn.Linear(2, 2))

    def noisy(self, good: Net) -> Net:
        return as_net(Noisy(2, 2))

    def counting(self, good: Net) -> Net:
        return as_net(Counting())

    def mixing(self, good: Net) -> Net:
        return as_net(Mixing(2, 2))

    def unreached(self, good: Net) -> Net:
        return as_net(Unreached())

    def forgotten_layer(self, good: Net) -> Net:
        return replace(good, layers=good.layers[1:])

    def misnamed_layer(self, good: Net) -> Net:
        wrong = [Layer(name=layer.name, kind="Conv9d", parameters=layer.parameters) for layer in good.layers]
        return replace(good, layers=tuple(wrong))

    def invented_trait(self, good: Net) -> Net:
        return replace(good, traits=frozenset({"quantum"}))

    def exploded(self, good: Net) -> Net:
        return as_net(Exploding(2, 2))


@pytest.mark.parametrize(
    ("how", "check"),
    [
        ("random_weights", "same_stream_same_net"),
        ("noisy", "eval_mode_is_a_function"),
        ("counting", "eval_mode_is_a_function"),
        ("unreached", "eval_mode_is_a_function"),
        ("exploded", "eval_mode_is_a_function"),
        ("mixing", "is_called_as_it_says"),
        ("forgotten_layer", "layers_own_the_parameters"),
        ("misnamed_layer", "layers_own_the_parameters"),
        ("invented_trait", "layers_own_the_parameters"),
    ],
)
def test_what_is_wrong_is_noticed(how: str, check: str) -> None:
    with pytest.raises(Broken):
        models.CHECKS[check](Sabotaged(how=how))


def test_a_model_that_takes_nothing_is_noticed() -> None:
    class Picky(TinyMlp):
        def build(self, tasks: tuple[Task, ...], rng: Rng) -> Net:
            return LinearModel().build(tasks[:0] or (), rng) if not tasks else self.refuse()

        def refuse(self) -> Net:
            from vallis.core.errors import ModelError

            raise ModelError("something else was required, this came: go away")

    with pytest.raises(Broken, match="must fit one of the toy problems"):
        models.is_a_model(Picky())
