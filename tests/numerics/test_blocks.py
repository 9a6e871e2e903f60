"""The blocks of a Hessian, all from one graph, against the dense matrix."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random, tied
from vallis.core.errors import UnknownPart
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.blocks import layer_blocks, owner_of
from vallis.numerics.curvature import positions
from vallis.numerics.lanczos import eigenpairs
from vallis.testing.oracles import dense_hessian


@pytest.mark.parametrize("budget", [None, 0])
@pytest.mark.parametrize("case", [name for name in AWKWARD if name != "batch_norm_training"])
def test_blocks_are_those_of_the_dense_hessian(case: str, budget: int | None) -> None:
    solution = AWKWARD[case]()
    exact = dense_hessian(solution)
    objective = Objective(solution, "train", torch.float64)
    blocks = layer_blocks(objective, budget=budget)
    assert sum(block.size for block in blocks.values()) == objective.num_parameters
    for name, block in blocks.items():
        own = [other for other in objective.names if owner_of(other) == name]
        places = positions(objective, own)
        torch.testing.assert_close(block.dense(), exact[places][:, places], rtol=1e-9, atol=1e-11)


def test_a_layer_by_name_has_all_that_is_below_it() -> None:
    solution = AWKWARD["transformer"]()
    objective = Objective(solution, "train", torch.float64)
    attention = "encoder.layers.0.self_attn"
    inside = [name for name in objective.names if name.startswith(attention)]
    assert {owner_of(name) for name in inside} == {attention, f"{attention}.out_proj"}
    named = layer_blocks(objective, [attention, "head.bias"])
    assert list(named) == [attention, "head.bias"]
    places = positions(objective, [attention])
    exact = dense_hessian(solution)
    torch.testing.assert_close(named[attention].dense(), exact[places][:, places], rtol=1e-9, atol=1e-11)
    assert named["head.bias"].size == 3
    by_owner = layer_blocks(objective)
    assert by_owner[attention].size == sum(
        value.numel()
        for name, value in zip(objective.names, objective.origin, strict=True)
        if owner_of(name) == attention
    )


def test_graphs_are_shared() -> None:
    objective = Objective(mlp(), "train")
    blocks = list(layer_blocks(objective).values())
    blocks[0] @ torch.ones(blocks[0].size)
    assert blocks[1].num_kept == blocks[0].num_kept == 4
    blocks[1].clear()
    assert blocks[0].num_kept == 0


def test_a_parameter_of_the_model_itself_is_a_block() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.ones(2)), nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.layer(x * self.scale))

    objective = Objective(held(built(Scaled), random(17, 2), classes(17)), "train")
    assert list(layer_blocks(objective)) == ["scale", "layer"]


def test_a_solver_takes_a_block() -> None:
    objective = Objective(mlp(), "train", torch.float64)
    for block in layer_blocks(objective).values():
        found = eigenpairs(block, largest=1, rng=Rng(0), dense_size=1, tolerance=1e-9)
        assert found.converged
        assert found.largest.values[0] == pytest.approx(float(torch.linalg.eigvalsh(block.dense())[-1]), rel=1e-8)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownPart, match="layer or parameter"):
        layer_blocks(Objective(tied(), "train"), ["nowhere"])


def test_a_single_name_is_one_name() -> None:
    objective = Objective(AWKWARD["transformer"](), "train", torch.float64)
    assert list(layer_blocks(objective, "head")) == ["head"]
