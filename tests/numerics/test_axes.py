"""The axes are orthonormal, and those in which dense Kronecker products are diagonal."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, batch_norm, built, classes, dead_relu, frozen, held, mlp, random, tied
from vallis.core.errors import LossError
from vallis.core.objective import Objective
from vallis.core.types import Solution
from vallis.numerics.axes import Axes, Block, kronecker_axes
from vallis.numerics.curvature import GaussNewton, positions
from vallis.numerics.kronecker import factors
from vallis.numerics.surface import in_eval_mode


def axes_of(solution: Solution) -> tuple[Objective, Axes]:
    objective = Objective(in_eval_mode(solution), dtype=torch.float64)
    return objective, kronecker_axes(objective, factors(objective))


def dense(axes: Axes, size: int) -> torch.Tensor:
    """Q, column by column."""
    return torch.stack([axes.turn(unit) for unit in torch.eye(size, dtype=torch.float64)], dim=1)


@pytest.mark.parametrize("name", sorted(set(AWKWARD) - {"lstm"}))
def test_the_axes_are_orthonormal(name: str) -> None:
    try:
        objective, axes = axes_of(AWKWARD[name]())
    except LossError:
        pytest.skip("this loss has no factors")
    size = objective.num_parameters
    q = dense(axes, size)
    torch.testing.assert_close(q @ q.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-12)
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(axes.back(axes.turn(vector)), vector, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(axes.back(vector), q.T @ vector, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [mlp, batch_norm, dead_relu])
def test_kronecker_products_are_diagonal_in_them(make: object) -> None:
    solution = make()  # type: ignore[operator]
    objective, axes = axes_of(solution)
    q = dense(axes, objective.num_parameters)
    for layer in factors(objective).values():
        where = positions(objective, [layer.names[0]])
        block = q[where][:, where]
        product = block @ torch.kron(layer.outputs, layer.inputs) @ block.T
        rest = product - torch.diag(torch.diag(product))
        assert float(rest.abs().max()) < 1e-7 * float(product.abs().max())
        m, n = len(layer.outputs), len(layer.inputs)
        along = torch.diag(product).view(m, n)
        assert bool((along.diff(dim=0) >= -1e-8).all())  # sorted by eigenvalue, in both factors
        assert bool((along.diff(dim=1) >= -1e-8).all())
        for name in layer.names[1:]:
            bias = positions(objective, [name])
            torch.testing.assert_close(
                q[bias][:, bias] @ layer.outputs @ q[bias][:, bias].T,
                torch.diag(torch.linalg.eigvalsh(layer.outputs)),
                rtol=1e-6,
                atol=1e-8,
            )


def test_axes_that_are_anybodys_choice_are_always_the_same() -> None:
    """Batched otherwise, and so rounded otherwise; and dead inputs keep their own axes."""
    one, other = (axes_of(mlp(batch_size)) for batch_size in (5, 16))
    size = one[0].num_parameters
    torch.testing.assert_close(dense(one[1], size), dense(other[1], size), rtol=0, atol=1e-5)
    module = built(lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)))
    x = random(17, 4)
    x[:, [0, 2]] = 0.0
    objective, axes = axes_of(held(module, x, classes(17)))
    inputs = axes.blocks[0].inputs
    assert inputs is not None
    torch.testing.assert_close(inputs[:2], torch.eye(4, dtype=torch.float64)[[0, 2]])
    assert objective.num_parameters == 27


def test_a_convex_layer_is_exactly_diagonal_where_inputs_and_curvature_are_independent() -> None:
    """The last layer at its own axes: the off-diagonal part is small beside that in the standard ones."""
    objective, axes = axes_of(mlp())
    where = positions(objective, ["4.weight"])
    matrix = GaussNewton(objective, only=["4.weight"]).dense()
    q = dense(axes, objective.num_parameters)[where][:, where]
    turned = q @ matrix @ q.T

    def off(square: torch.Tensor) -> float:
        return float((square - torch.diag(torch.diag(square))).norm() / square.norm())

    assert off(turned) < 0.5 * off(matrix)


def test_parameters_without_factors_keep_their_axes() -> None:
    for make, alone in ((batch_norm, "1.weight"), (frozen, "0.bias")):
        objective, axes = axes_of(make())
        where = positions(objective, [alone])
        q = dense(axes, objective.num_parameters)
        if not any(alone in layer.names for layer in factors(objective).values()):
            torch.testing.assert_close(q[where][:, where], torch.eye(len(where), dtype=torch.float64))
    objective, _ = axes_of(tied())
    assert objective.num_parameters == 15


def test_without_blocks_nothing_moves() -> None:
    vector = torch.arange(5.0)
    assert Axes().turn(vector) is vector
    assert Axes().back(vector) is vector


def test_a_block_of_a_vector() -> None:
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    axes = Axes([Block(start=1, outputs=turn)])
    found = axes.turn(torch.tensor([5.0, 1.0, 2.0, 7.0]))
    assert found.tolist() == [5.0, 2.0, -1.0, 7.0]
    assert axes.back(found).tolist() == [5.0, 1.0, 2.0, 7.0]
