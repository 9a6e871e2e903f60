"""What is the same function, the same loss, the same data; and what only looks so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from vallis.numerics.likeness import are_equal, are_set_up_alike


@dataclass(eq=False)
class Held:
    value: Any


@dataclass
class Named:
    name: str = ""

    @cached_property
    def size(self) -> int:
        return len(self.name)


class Listed(list[int]):
    """A list that may have attributes."""


@dataclass(eq=False)
class Weighing(nn.Module):
    by: float

    def __post_init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), self.by))


def _marked(held: Any, mark: float) -> Any:
    held.mark = mark
    return held


def _calling_itself(by: float) -> Callable[[float], float]:
    def halved(x: float) -> float:
        return by * halved(x / 2) if x > 1 else x

    return halved


def _adding(number: Any) -> Callable[[Any], Any]:
    return lambda x, by=1: x + number * by


class Odd:
    """Says nothing of whether it is equal."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("not told")

    __hash__ = object.__hash__


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(3.0),
        lambda: [torch.ones(2), {"a": (1, "b")}],
        lambda: Held(torch.ones(2)),
        lambda: _adding(2),
        lambda: _adding(torch.ones(2)),
        lambda: partial(_adding, number=3),
        lambda: Held(1).__repr__,
        lambda: _marked(_adding(2), 1.0),
        lambda: Weighing(2.0),
        lambda: nn.CrossEntropyLoss(weight=torch.ones(3)),
        lambda: None,
    ],
)
def test_copies_are_equal(make: Callable[[], Any]) -> None:
    assert are_equal(make(), make())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.ones(2), torch.ones(3)),
        (torch.ones(2), torch.ones(2).double()),
        (torch.ones(2), torch.tensor([1.0, 1.0000001])),
        (torch.tensor(float("nan")), torch.tensor(float("nan"))),
        ([1, 2], [1, 2, 3]),
        ([1, 2], (1, 2)),
        ({"a": 1}, {"b": 1}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Held(torch.ones(2)), Held(torch.zeros(2))),
        (_adding(2), _adding(3)),
        (_adding(2), lambda x, by=1: x),
        (partial(_adding, number=3), partial(_adding, number=4)),
        (Held(1).__repr__, Held(2).__repr__),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), nn.CrossEntropyLoss(weight=torch.zeros(3))),
        (np.ones(2), np.ones(2)),
        (Odd(), Odd()),
        (Held, Named),
        (Weighing(2.0), Weighing(2.0).requires_grad_(False).apply(lambda part: part.weight.mul_(2))),
        (_marked(Held(1), 1.0), _marked(Held(1), 2.0)),
        (_marked(_adding(1), 1.0), _marked(_adding(1), 2.0)),
        (_marked(Listed([1]), 1.0), _marked(Listed([1]), 2.0)),
        (torch.eye(2).to_sparse(), torch.eye(2).to_sparse()),
        (_calling_itself(1.0), _calling_itself(1.0)),
        (1, 1.0),
    ],
)
def test_what_differs_or_cannot_tell_is_not_equal(one: Any, other: Any) -> None:
    assert not are_equal(one, other)
    assert not are_equal(other, one)


def test_everything_equals_itself() -> None:
    nan, odd = torch.tensor(float("nan")), Odd()
    assert are_equal(nan, nan)
    assert are_equal([odd], [odd])


def test_what_was_computed_already_is_no_difference() -> None:
    one, other = Named("a"), Named("a")
    assert one.size == 1
    assert are_equal(one, other)
    assert are_equal(other, one)


def _net(**settings: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, **settings), nn.ReLU(), nn.Linear(4, 2))


def test_networks_of_other_weights_are_alike() -> None:
    assert are_set_up_alike(_net(), _net())
    one = _net()
    assert are_set_up_alike(one, one)


def _tied(which: int) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    net[2].weight = net[which].weight
    return net


def _with(change: Callable[[nn.Sequential], Any]) -> nn.Sequential:
    net = _net()
    change(net)
    return net


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_net(), _net(eps=0.1)),
        (_net(), _net(affine=False)),
        (_net(), _net()[:3]),
        (_net(), _with(lambda net: net.eval())),
        (_net(), _with(lambda net: net[0].register_forward_hook(lambda *given: None))),
        (_net(), _with(lambda net: setattr(net, "temperature", 2.0))),
        (_net(), _with(lambda net: setattr(net[0], "forward", lambda x: x))),
        (_tied(0), _tied(1)),
        (_net(), nn.Sequential(*copy.deepcopy(_net()[:2]), nn.Tanh(), nn.Linear(4, 2))),
        (weight_norm(nn.Linear(3, 4)), weight_norm(nn.Linear(3, 4))),
    ],
)
def test_what_may_be_another_function_is_not_alike(one: nn.Module, other: nn.Module) -> None:
    assert not are_set_up_alike(one, other)
    assert not are_set_up_alike(other, one)


def test_hooks_on_all_modules_are_hooks_on_these() -> None:
    one, other = _net(), _net()
    handle = nn.modules.module.register_module_forward_hook(lambda *given: None)
    try:
        assert not are_set_up_alike(one, other)
        assert not are_set_up_alike(one, one)
    finally:
        handle.remove()
    assert are_set_up_alike(one, other)
