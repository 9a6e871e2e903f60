"""A run whose every step was decided beforehand has the bits of each member alone, at every run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.numerics.programs import NETS
from tests.numerics.test_program import weights_of
from vallis.numerics.program import Program
from vallis.numerics.program_kernels import Weights
from vallis.numerics.program_replay import Replay, can_replay
from vallis.numerics.program_stack import Members
from vallis.numerics.program_tracing import traced
from vallis.numerics.stacked import Stacked, aligned

_NUM_MEMBERS = 3


def _dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))


def _frozen(net: nn.Sequential, place: int) -> nn.Sequential:
    net[place].requires_grad_(False)
    return net


CHAINS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{name: NETS[name] for name in ("a layer alone", "dense", "dropout", "one number at a time")},
    "exact activations": (
        lambda: nn.Sequential(
            *(nn.LeakyReLU(0.1), nn.Linear(64, 32), nn.ReLU(), nn.LeakyReLU(0.2), nn.Linear(32, 16), nn.ReLU()),
            *(nn.ReLU(), nn.Linear(16, 10), nn.ReLU()),
        ),
        (9, 64),
    ),
    "activations of every kind": (
        lambda: nn.Sequential(
            *(nn.Tanh(), nn.Linear(64, 32), nn.GELU(), nn.ReLU(), nn.Linear(32, 16), nn.SiLU(), nn.Sigmoid()),
            *(nn.Linear(16, 10),),
        ),
        (8, 64),
    ),
    "more axes": (
        lambda: nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 5, bias=False), nn.Flatten(), nn.Linear(40, 10)),
        (6, 8, 8),
    ),
    "dropout first and in a row": (
        lambda: nn.Sequential(nn.Dropout(0.2), nn.Linear(64, 16), nn.Dropout(0.3), nn.Dropout(0.4), nn.Linear(16, 10)),
        (8, 64),
    ),
    "frozen in front": (
        lambda: _frozen(
            nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)), 0
        ),
        (8, 64),
    ),
    "frozen in between": (
        lambda: _frozen(
            nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)), 2
        ),
        (8, 64),
    ),
    "odd widths without biases": (
        lambda: nn.Sequential(
            nn.Linear(64, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False), nn.LeakyReLU(), nn.Linear(1, 10)
        ),
        (7, 64),
    ),
    "one example": (lambda: nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10)), (1, 64)),
}


def _side_by_side(modules: list[nn.Module], names: frozenset[str]) -> Members:
    """Their weights as a company lays them out."""
    each, values, slopes = [weights_of(module, names, seed) for seed, module in enumerate(modules)], {}, {}
    for name in names:
        shape, like = each[0].values[name].shape, each[0].values[name].detach()
        for held, kept in (("values", values), ("slopes", slopes)):
            rows = like.new_zeros(len(each), aligned(shape.numel(), like.dtype))
            kept[name] = rows[:, : shape.numel()].unflatten(1, shape) if shape else rows[:, 0]
            for weights, place in zip(each, kept[name], strict=True):
                place.copy_(getattr(weights, held)[name].detach())
    each = [
        Weights(
            {**weights.values, **{name: values[name][k] for name in names}},
            {name: slopes[name][k] for name in weights.slopes},
            weights.generator,
        )
        for k, weights in enumerate(each)
    ]
    return Members(tuple(each), values, slopes)


def _made(name: str) -> tuple[Program, list[Weights], Members, tuple[int, ...], frozenset[str]]:
    make, shape = CHAINS[name]
    torch.manual_seed(1)
    modules = [make().train() for _ in range(_NUM_MEMBERS)]
    names = frozenset(key for key, value in modules[0].named_parameters() if value.requires_grad)
    alone = [weights_of(module, names, seed) for seed, module in enumerate(modules)]
    everything = frozenset(key for key, _ in modules[0].named_parameters())
    return traced(modules[0], names), alone, _side_by_side(modules, everything), shape, names


@pytest.mark.parametrize("name", CHAINS)
def test_each_member_has_the_bits_of_a_run_alone_at_every_run(name: str) -> None:
    program, alone, members, shape, names = _made(name)
    x = Stacked.empty(_NUM_MEMBERS, shape, torch.zeros(()))
    assert can_replay(program, members, x)
    with torch.no_grad():
        replay = Replay(program, members, x)
        for _ in range(3):
            x.whole.copy_(torch.randn(_NUM_MEMBERS, *shape))
            outputs = replay.forward()
            slope = torch.randn(_NUM_MEMBERS, *outputs.shape)
            found = outputs.whole.clone()
            replay.backward(Stacked.of_whole(slope))
            for k, weights in enumerate(alone):
                expected, tape = program.forward(weights, x.members[k].clone())
                # (In memory of its own, as a single network has it: elsewhere products may round otherwise.)
                program.backward(weights, tape, slope[k].clone())
                assert torch.equal(found[k], expected)
                for key in names:
                    assert torch.equal(members.each[k].slopes[key], weights.slopes[key]), key


@pytest.mark.parametrize("name", ["exact activations", "activations of every kind", "dropout first and in a row"])
def test_it_leaves_the_inputs_and_the_slope_as_they_were(name: str) -> None:
    program, _, members, shape, _ = _made(name)
    x = Stacked.of_whole(torch.randn(_NUM_MEMBERS, *shape))
    before = x.whole.clone()
    with torch.no_grad():
        replay = Replay(program, members, x)
        slope = Stacked.of_whole(torch.randn(_NUM_MEMBERS, *replay.forward().shape))
        kept = slope.whole.clone()
        replay.backward(slope)
    assert torch.equal(x.whole, before)
    assert torch.equal(slope.whole, kept)


@pytest.mark.parametrize("name", ["norms", "every activation", "odd widths without biases"])
def test_other_programs_are_not_replayed(name: str) -> None:
    make, shape = NETS[name]
    modules = [make().train() for _ in range(2)]
    names = frozenset(key for key, _ in modules[0].named_parameters())
    x = Stacked.empty(2, shape, torch.zeros(()))
    assert not can_replay(traced(modules[0], names), _side_by_side(modules, names), x)


def test_neither_are_weights_or_inputs_that_lie_apart() -> None:
    program, alone, members, shape, _ = _made("dense")
    x = Stacked.empty(_NUM_MEMBERS, shape, torch.zeros(()))
    assert not can_replay(program, Members(tuple(alone)), x)
    assert not can_replay(program, members, Stacked.apart([torch.zeros(shape)] * _NUM_MEMBERS))


class Twice(nn.Module):
    """Reads a value twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.one(x))
        return self.two(h + h)


def test_neither_is_what_is_no_chain() -> None:
    modules: list[nn.Module] = [Twice().train() for _ in range(2)]
    names = frozenset(key for key, _ in modules[0].named_parameters())
    x = Stacked.empty(2, (8, 64), torch.zeros(()))
    assert not can_replay(traced(modules[0], names), _side_by_side(modules, names), x)
