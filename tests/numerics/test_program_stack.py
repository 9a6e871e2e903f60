from __future__ import annotations

import pytest
import torch

from tests.numerics.programs import NETS
from tests.numerics.test_program import weights_of
from vallis.numerics.program_stack import Members, backward, forward
from vallis.numerics.program_tracing import traced
from vallis.numerics.stacked import Stacked


@pytest.mark.parametrize("name", NETS)
def test_each_member_has_the_bits_of_a_run_alone(name: str) -> None:
    make, shape = NETS[name]
    torch.manual_seed(1)
    modules = [make().train() for _ in range(3)]
    twins = [make().train() for _ in range(3)]
    for module, twin in zip(modules, twins, strict=True):
        twin.load_state_dict(module.state_dict())
    names = frozenset(key for key, _ in modules[0].named_parameters())
    inputs, slopes = [torch.randn(shape) for _ in modules], [torch.randn(shape[0], 10) for _ in modules]
    program = traced(modules[0], names)
    alone = [weights_of(module, names, seed) for seed, module in enumerate(modules)]
    company = Members(tuple(weights_of(twin, names, seed) for seed, twin in enumerate(twins)))
    with torch.no_grad():
        outputs, kept = forward(program, company, Stacked.apart(inputs))
        backward(program, company, kept, Stacked.apart(slopes))
        for k, weights in enumerate(alone):
            expected, tape = program.forward(weights, inputs[k])
            program.backward(weights, tape, slopes[k])
            assert torch.equal(outputs.members[k], expected)
            for key in names:
                assert torch.equal(company.each[k].slopes[key], weights.slopes[key]), key
    for module, twin in zip(modules, twins, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(module.buffers(), twin.buffers(), strict=True))
