"""What is recorded is what the layers saw, and the network is left alone."""

from __future__ import annotations

import pytest
import torch

from tests.numerics.layer_solutions import LAYERED, in_place, language, odd, rectified
from vallis.core.objective import Objective
from vallis.numerics.affine import affine_layers
from vallis.numerics.flows import Affine, NoFlow, run
from vallis.numerics.surface import in_eval_mode


@pytest.mark.parametrize("name", LAYERED)
def test_the_rows_that_come_out_are_the_matrix_times_those_that_go_in(name: str) -> None:
    objective = Objective(in_eval_mode(LAYERED[name]()), dtype=torch.float64)
    layers, _ = affine_layers(objective)
    values = dict(zip(objective.names, objective.origin, strict=True))
    parts = dict(objective.module.named_modules())
    for term in objective.terms():
        returned, flows = run(term, layers)
        assert torch.equal(returned, term.outputs(objective.origin))
        for layer in layers:
            assert flows[layer.name]
            for flow in flows[layer.name]:
                found = flow.rows(flow.outputs.detach())
                assert flow.inputs.shape[0] == found.shape[0] == len(term.batch)
                made = flow.inputs @ values[layer.weight].reshape(layer.shape).T
                bias = values[layer.bias] if layer.bias else parts[layer.name].bias
                torch.testing.assert_close(made + (0 if bias is None else bias), found, rtol=1e-12, atol=1e-12)


def test_what_is_recorded_is_not_written_over() -> None:
    objective = Objective(in_place(), dtype=torch.float64)
    layers, _ = affine_layers(objective)
    _, flows = run(next(objective.terms()), layers)
    (first,) = flows["first"]
    assert bool((first.outputs < 0).any())  # as it was before the rectifier wrote over it
    grads = torch.autograd.grad(flows["third"][0].outputs.sum(), [first.outputs, flows["second"][0].outputs])
    assert all(bool(grad.any()) for grad in grads)


def test_a_single_example_of_several_tokens() -> None:
    objective = Objective(language())
    batch = next(objective.terms())
    assert [flow.inputs.shape for flow in run(batch, affine_layers(objective)[0])[1]["mix"]] == [(5, 4, 3)]


def test_hooks_are_gone_whatever_happens() -> None:
    solution = odd()
    objective = Objective(solution)
    mixed = Affine("mixed", ("mixed",), "mixed.weight", "mixed.bias", (4, 4))
    with pytest.raises(NoFlow, match="layer mixed") as caught:
        run(next(objective.terms()), [mixed])
    assert caught.value.layer == "mixed"
    objective = Objective(rectified())
    run(next(objective.terms()), affine_layers(objective)[0])
    for module in (solution.net.module.mixed, *objective.module.modules()):
        assert isinstance(module, torch.nn.Module)
        assert not module._forward_hooks
        assert all(not value.requires_grad for value in objective.origin)
    assert Affine("a", ("a",), "a.weight", None, (2, 3)).names == ("a.weight",)
