"""What is pulled back are gradients of single examples, whose squares add up to the Gauss-Newton matrix."""

from __future__ import annotations

import pytest
import torch

from tests.numerics.layer_solutions import LAYERED, language, rectified
from tests.numerics.test_curvature import dense_gauss_newton
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.affine import affine_layers
from vallis.numerics.curvature import positions
from vallis.numerics.pulled import Draws, pulled_roots
from vallis.numerics.surface import in_eval_mode


@pytest.mark.parametrize("name", LAYERED)
def test_the_pulled_rows_are_the_gradients_of_single_examples(name: str) -> None:
    """``sum (sum_s g_s x_s')(...)'`` over columns and examples is the block of the weight."""
    solution = in_eval_mode(LAYERED[name]())
    objective = Objective(solution, dtype=torch.float64)
    layers, _ = affine_layers(objective)
    truth = dense_gauss_newton(solution)
    sizes = {layer.name: layer.shape[0] * layer.shape[1] for layer in layers}
    totals = {layer: torch.zeros(size, size, dtype=torch.float64) for layer, size in sizes.items()}
    for term in objective.terms():
        pulled = pulled_roots(term, layers)
        assert pulled.num_draws == 0
        for column in pulled.columns:
            for layer, calls in column.items():
                inputs = [flow.inputs for flow in pulled.flows[layer]]
                parts = [torch.einsum("nsm,nsk->nmk", g, x) for g, x in zip(calls, inputs, strict=True)]
                gradients = torch.stack(parts).sum(0).flatten(1)
                totals[layer] += gradients.T @ gradients
    for layer in layers:
        places = positions(objective, [layer.weight])
        torch.testing.assert_close(totals[layer.name], truth[places][:, places], rtol=1e-9, atol=1e-12)


def test_columns_are_drawn_where_there_are_more_than_allowed() -> None:
    objective = Objective(language(), dtype=torch.float64)
    layers, _ = affine_layers(objective)
    term = next(objective.terms())

    def columns(max_columns: int | None) -> tuple[int, list[torch.Tensor]]:
        found = pulled_roots(term, layers, Draws(max_columns, Rng(0)))
        return found.num_draws, [column["mix"][0] for column in found.columns]

    for allowed, (drawn, count) in {None: (0, 8), 8: (0, 8), 7: (7, 7), 1: (1, 1)}.items():
        found = columns(allowed)
        assert (found[0], len(found[1])) == (drawn, count)
    assert all(torch.equal(one, other) for one, other in zip(columns(7)[1], columns(7)[1], strict=True))
    assert not torch.equal(columns(7)[1][0], columns(7)[1][1])


def test_no_layers_pull_nothing() -> None:
    assert list(pulled_roots(next(Objective(rectified()).terms()), ()).columns) == []
