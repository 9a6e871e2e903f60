"""What is recorded is what the layers saw, and the network is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.laws.adversarial_networks import NETWORKS, cut
from tests.numerics.layer_solutions import LAYERED, in_place, language, odd, rectified
from tests.numerics.solutions import built, classes, held, random
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


def rows_seen(objective: Objective, layer: str) -> torch.Tensor:
    layers, _ = affine_layers(objective)
    return torch.cat([run(term, layers)[1][layer][0].inputs for term in objective.terms()])


@pytest.mark.parametrize("sizes", [(3, 3, 2), (5, 3), (1, 3, 4), (8,)])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("flat_time_first", "mix"),
        ("flat_first_token", "mix"),
        ("flat", "mix"),
        ("lstm_time_first", "before"),
        ("lstm", "before"),
        ("gru_time_first", "before"),
        ("tokens", "mix"),
    ],
)
def test_rows_are_those_of_their_examples_in_any_layout(name: str, layer: str, sizes: tuple[int, ...]) -> None:
    """Three tokens an example: batches of three leave two axes to choose from, and those of one none."""
    solution = cut(NETWORKS[name](), sizes)
    data: Any = solution.task.splits["train"]
    seen = rows_seen(Objective(solution, dtype=torch.float64), layer)
    torch.testing.assert_close(seen, data.x.double(), rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [(3, 3, 2), (1, 3, 4)])
def test_rows_inside_an_encoder_are_those_of_one_that_is_fed_batches_first(sizes: tuple[int, ...]) -> None:
    first, time_first = (
        rows_seen(Objective(cut(NETWORKS[name](), sizes), dtype=torch.float64), "inner.linear2")
        for name in ("encoder", "encoder_time_first")
    )
    torch.testing.assert_close(first, time_first, rtol=1e-12, atol=1e-13)


def test_a_later_batch_that_mixes_examples_is_refused() -> None:
    """In the first each example has one row, in the second one has two of three: no shape tells."""
    objective = Objective(NETWORKS["chosen_rows"](), dtype=torch.float64)
    layers, refused = affine_layers(objective, "one")
    assert not refused
    first, second, *_ = objective.terms()
    run(first, layers)
    with pytest.raises(NoFlow, match="layer one by example were required, but its rows cannot be told apart"):
        run(second, layers)


def test_axes_that_nothing_tells_apart_are_refused() -> None:
    class Aside(nn.Module):
        """What its second layer makes is thrown away."""

        def __init__(self) -> None:
            super().__init__()
            self.head, self.aside = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.aside(x)
            return self.head(x).sum(1)

    for length, expected in ((4, {}), (3, {"aside": "nothing tells which rows of its inputs (3, 3, 3)"})):
        solution = held(built(Aside), random(3, length, 3), classes(3))
        refused = affine_layers(Objective(solution))[1]
        assert list(refused) == list(expected)
        assert all(refused[name].startswith(why) for name, why in expected.items())


def test_one_example_with_a_large_gradient_hides_no_other() -> None:
    """The tolerance is that of each row: the wrong layout is seen on rows a thousand times smaller."""
    solution = cut(NETWORKS["flat_first_token"](), (3, 3, 2))
    data: Any = solution.task.splits["train"]
    data.x[0] *= 1000
    objective = Objective(solution)
    assert torch.equal(rows_seen(objective, "mix"), data.x)
