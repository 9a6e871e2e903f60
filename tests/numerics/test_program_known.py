"""Networks of torch's own layers are proved once; whatever could make two of them differ keeps them apart."""

from __future__ import annotations

import gc
import types
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from vallis.numerics import program_known
from vallis.numerics.program import Program
from vallis.numerics.program_known import plan_of, program_of


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_known, "_KNOWN", type(program_known._KNOWN)())


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[nn.Module]]:
    """The modules that were proved."""
    seen: list[nn.Module] = []

    def counted(program: Program, module: nn.Module, *others: object) -> bool:
        seen.append(module)
        return proved(program, module, *others)  # type: ignore[arg-type]

    proved = program_known.is_proved
    monkeypatch.setattr(program_known, "is_proved", counted)
    yield seen


def network(**settings: object) -> nn.Sequential:
    norm = nn.BatchNorm1d(5, momentum=settings.get("momentum", 0.1))  # type: ignore[arg-type]
    return nn.Sequential(nn.Linear(4, 5), norm, nn.ReLU(), nn.Dropout(float(settings.get("p", 0.5))), nn.Linear(5, 3))  # type: ignore[arg-type]


def program(module: nn.Module, x: torch.Tensor | None = None) -> Program | None:
    names = [name for name, value in module.named_parameters() if value.requires_grad]
    return program_of(module, names, [torch.randn(4, 4) if x is None else x])


def test_the_second_network_of_its_kind_needs_no_proof(proofs: list[nn.Module]) -> None:
    found = [program(network()) for _ in range(3)]
    assert len(proofs) == 1
    assert found[0] is not None and all(other is found[0] for other in found)


def test_it_keeps_no_network() -> None:
    net = network()
    assert program(net) is not None
    held = [weakref.ref(part) for part in (net, *net.children(), *net.parameters())]
    del net
    gc.collect()
    assert not any(part() is not None for part in held)


@pytest.mark.parametrize(
    "other",
    [
        lambda: network(momentum=0.2),
        lambda: network(p=0.25),
        lambda: network().double(),
        lambda: _frozen(network(), 0),
        lambda: _with(network(), lambda net: net[1].eval()),
        lambda: _with(network(), lambda net: setattr(net[0], "weight", nn.Parameter(torch.randn(4, 5).t()))),
    ],
    ids=["momentum", "dropout", "float64", "frozen", "eval mode", "layout"],
)
def test_networks_that_differ_are_proved_each(other: Callable[[], nn.Module], proofs: list[nn.Module]) -> None:
    program(network())
    module = other()
    program(module, torch.randn(4, 4, dtype=next(module.parameters()).dtype))
    again = other()
    program(again, torch.randn(4, 4, dtype=next(again.parameters()).dtype))
    assert sum(part is module for part in proofs) <= 1
    assert len(program_known._KNOWN) == 2
    assert len({id(found) for found in program_known._KNOWN.values()}) == 2


def test_inputs_of_another_shape_are_proved_anew(proofs: list[nn.Module]) -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    program(net)
    program(net, torch.randn(4, 2, 4))
    program(net, torch.randn(4, 4, 2).transpose(1, 2))
    assert len(proofs) == 3


def test_another_number_of_threads_is_proved_anew(proofs: list[nn.Module]) -> None:
    program(network())
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        program(network())
    finally:
        torch.set_num_threads(threads)
    assert len(proofs) == 2


def test_a_tied_weight_is_no_copy_of_it() -> None:
    apart = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert plan_of(apart) != plan_of(tied)
    assert program(apart) is not None
    assert program(tied) is None


class Own(nn.Sequential):
    """torch's layers, and Python of its own."""


def _own_forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x * 2


def _hooked(net: nn.Sequential) -> None:
    net[2].register_forward_hook(lambda module, x, out: out * 2)


def _hooked_backward(net: nn.Sequential) -> None:
    net[2].register_full_backward_hook(lambda module, x, out: None)


def _hooked_weight(net: nn.Sequential) -> None:
    net[0].weight.register_hook(lambda slope: slope * 2)


def _with(net: nn.Sequential, change: Callable[[nn.Sequential], object]) -> nn.Sequential:
    change(net)
    return net


def _frozen(net: nn.Sequential, place: int) -> nn.Sequential:
    return _with(net, lambda net: net[place].requires_grad_(False))


@pytest.mark.parametrize(
    "other",
    [
        lambda: Own(*network()),
        lambda: _with(network(), lambda net: setattr(net, "forward", types.MethodType(_own_forward, net))),
        lambda: _with(network(), lambda net: setattr(net[2], "forward", types.MethodType(_own_forward, net[2]))),
        lambda: _with(network(), lambda net: setattr(net[2], "memory", torch.zeros(3))),
        lambda: _with(network(), _hooked),
        lambda: _with(network(), _hooked_backward),
        lambda: _with(network(), _hooked_weight),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))),
    ],
    ids=["subclass", "forward", "layer's forward", "tensor", "hook", "backward hook", "weight's hook", "norm", "norms"],
)
def test_what_holds_more_than_settings_has_no_plan(other: Callable[[], nn.Module]) -> None:
    assert plan_of(network()) is not None
    assert plan_of(other()) is None


def test_a_hook_on_every_module_ends_it() -> None:
    hook = nn.modules.module.register_module_forward_hook(lambda module, x, out: None)
    try:
        assert plan_of(network()) is None
    finally:
        hook.remove()
    assert plan_of(network()) is not None


def test_a_class_whose_forward_was_replaced_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_of(network())
    monkeypatch.setattr(nn.ReLU, "forward", _own_forward)
    assert plan_of(network()) != before


def test_it_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch, proofs: list[nn.Module]) -> None:
    monkeypatch.setattr(program_known, "_MOST_KNOWN", 2)
    for width in (2, 3, 4, 2):
        program(nn.Sequential(nn.Linear(4, width)))
    assert len(proofs) == 4
    assert len(program_known._KNOWN) == 2


def test_a_network_without_a_program_is_known_as_well(proofs: list[nn.Module]) -> None:
    assert program(nn.Sequential(nn.Linear(4, 4), nn.Softmax(1))) is None
    assert list(program_known._KNOWN.values()) == [None]
    assert proofs == []
