"""Networks that do what their graph does not show are found out, and those of the catalog are proved."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.numerics.programs import NETS
from vallis.numerics.program_proof import is_proved
from vallis.numerics.program_tracing import traced


class Pair(nn.Module):
    """Two layers, and what is done between them."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.between = nn.Linear(8, 8), nn.Linear(8, 3), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.between(self.one(x)))


def stopped(h: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        mean = h.mean(0)
    return h - mean


class Rectified(nn.Module):
    """Writes over a value that it reads again."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.relu = nn.Linear(8, 8), nn.Linear(8, 3), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.one(x)
        return self.two(self.relu(h) + h)


class FrozenNorm(nn.Sequential):
    """Keeps its batch normalisation in eval mode, as one does who fine-tunes."""

    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(mode)
        self[1].eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self[2](self[1](self[0](x)))


class Doubled(Pair):
    """Is called in a way of its own."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = 2 * super().__call__(x)
        return found


SECRETIVE: dict[str, Callable[[], nn.Module]] = {
    "a gradient is stopped": lambda: Pair(stopped),
    "a value is written over": Rectified,
    "a norm is frozen": lambda: FrozenNorm(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)),
    "it is called in a way of its own": lambda: Doubled(torch.tanh),
}


def proved(module: nn.Module, x: torch.Tensor) -> bool:
    names = [name for name, _ in module.train().named_parameters()]
    return is_proved(traced(module, frozenset(names)), module, names, x)


@pytest.mark.parametrize("name", SECRETIVE)
def test_what_no_graph_shows_is_found_out(name: str) -> None:
    torch.manual_seed(0)
    assert not proved(SECRETIVE[name](), torch.zeros(4, 8))


@pytest.mark.parametrize("name", NETS)
def test_what_it_shows_is_proved_and_nothing_is_touched(name: str) -> None:
    make, shape = NETS[name]
    torch.manual_seed(0)
    module = make()
    before, drawn = {key: value.clone() for key, value in module.state_dict().items()}, torch.get_rng_state()
    assert proved(module, torch.zeros(4, *shape[1:]))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_examples_that_the_network_does_not_take_prove_nothing() -> None:
    assert not proved(nn.Sequential(nn.Linear(8, 8)), torch.zeros(4, 7))
