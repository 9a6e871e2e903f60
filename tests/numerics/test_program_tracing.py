from __future__ import annotations

import copy

import pytest
import torch

from tests.numerics.programs import REFUSED, Lucky
from vallis.numerics.program_graph import NoProgram
from vallis.numerics.program_tracing import traced


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_straight_line_is_refused_with_a_reason(name: str) -> None:
    make, reason = REFUSED[name]
    module = make().train()
    with pytest.raises(NoProgram, match=reason):
        traced(module, frozenset(key for key, _ in module.named_parameters()))


def test_hooks_on_every_module_are_refused() -> None:
    hook = torch.nn.modules.module.register_module_forward_hook(lambda module, x, out: None)
    try:
        with pytest.raises(NoProgram, match="every module"):
            traced(torch.nn.Linear(4, 4), frozenset({"weight", "bias"}))
    finally:
        hook.remove()


def test_tracing_touches_neither_the_module_nor_the_generators() -> None:
    module = Lucky()
    before, state = torch.get_rng_state(), copy.deepcopy(module.state_dict())
    with pytest.raises(NoProgram):
        traced(module, frozenset(key for key, _ in module.named_parameters()))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_the_signature_tells_architectures_apart() -> None:
    def signature(*parts: torch.nn.Module, trained: frozenset[str] | None = None) -> str:
        module = torch.nn.Sequential(*parts).train()
        return traced(module, trained or frozenset(key for key, _ in module.named_parameters())).signature

    one = signature(torch.nn.Linear(4, 4), torch.nn.ReLU())
    assert one == signature(torch.nn.Linear(4, 4), torch.nn.ReLU())
    assert one != signature(torch.nn.Linear(4, 5), torch.nn.ReLU())
    assert one != signature(torch.nn.Linear(4, 4), torch.nn.Tanh())
    shared = [torch.nn.Linear(4, 4), *(torch.nn.BatchNorm1d(4) for _ in range(2))]
    apart = signature(*shared)
    for name, value in shared[1].named_buffers():
        setattr(shared[2], name, value)
    assert signature(*shared) != apart
    averages = [torch.nn.AvgPool2d(3, 2, 1, count_include_pad=included) for included in (True, False)]
    assert repr(averages[0]) == repr(averages[1])
    assert signature(torch.nn.Conv2d(1, 1, 3), averages[0]) != signature(torch.nn.Conv2d(1, 1, 3), averages[1])
    assert one != signature(torch.nn.Linear(4, 4), torch.nn.ReLU(), trained=frozenset({"0.bias"}))
