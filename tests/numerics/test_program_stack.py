from __future__ import annotations

import pytest
import torch

from tests.numerics.programs import NETS
from tests.numerics.test_program import weights_of
from vallis.numerics.program_stack import Members, Stacked, aligned, backward, forward
from vallis.numerics.program_tracing import traced


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
        outputs, kept = forward(program, company, Stacked.of(inputs))
        backward(program, company, kept, Stacked.of(slopes))
        for k, weights in enumerate(alone):
            expected, tape = program.forward(weights, inputs[k])
            program.backward(weights, tape, slopes[k])
            assert torch.equal(outputs.members[k], expected)
            for key in names:
                assert torch.equal(company.each[k].slopes[key], weights.slopes[key]), key
    for module, twin in zip(modules, twins, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(module.buffers(), twin.buffers(), strict=True))


def test_rows_begin_where_a_tensor_of_its_own_would() -> None:
    stacked = Stacked.of([torch.randn(3, 7) for _ in range(4)])
    assert all(member.data_ptr() % 64 == 0 for member in stacked.members)
    assert all(member.is_contiguous() for member in stacked.members)
    assert (aligned(1, torch.float32), aligned(16, torch.float32), aligned(17, torch.float64)) == (16, 16, 24)


@pytest.mark.parametrize("width", [7, 16])
def test_a_whole_is_taken_apart_and_put_together(width: int) -> None:
    whole = torch.randn(4, 2, width)
    stacked = Stacked.of_whole(whole)
    assert torch.equal(stacked.whole, whole)
    assert torch.equal(torch.stack(stacked.members), whole)
    assert (stacked.rows.data_ptr() == whole.data_ptr()) == (width == 16)
