"""The exact curvature of a layer, against dense Hessians and Gauss-Newton matrices."""

from __future__ import annotations

import pytest
import torch

from tests.numerics.layer_solutions import LAYERED, language, odd, rectified
from tests.numerics.solutions import AWKWARD, mlp, random, regression, tied
from tests.numerics.test_curvature import dense_gauss_newton
from vallis.core.errors import ModelError
from vallis.core.objective import Objective
from vallis.numerics.affine import affine_layers
from vallis.numerics.curvature import positions
from vallis.numerics.layer_curvature import LayerGaussNewton
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian

ALL = AWKWARD | LAYERED


@pytest.mark.parametrize("name", ALL)
def test_it_is_the_block_of_the_gauss_newton_matrix(name: str) -> None:
    solution = in_eval_mode(ALL[name]())
    objective = Objective(solution, dtype=torch.float64)
    truth = dense_gauss_newton(solution)
    layers, _ = affine_layers(objective)
    assert layers
    for layer in layers:
        places = positions(objective, layer.names)
        block = truth[places][:, places]
        found = LayerGaussNewton(objective, layer.name).dense()
        torch.testing.assert_close(found, block, rtol=1e-9, atol=1e-12)
        assert float(torch.linalg.eigvalsh(found).min()) > -1e-12
        weight = LayerGaussNewton(objective, layer.name, part="weight").dense()
        torch.testing.assert_close(weight, found[: len(weight), : len(weight)], rtol=1e-12, atol=1e-14)
        if layer.bias:
            bias = LayerGaussNewton(objective, layer.name, part="bias").dense()
            torch.testing.assert_close(bias, found[len(weight) :, len(weight) :], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("budget", [0, None])
def test_where_every_example_has_one_row_the_matrix_takes_no_product(budget: int | None) -> None:
    objective = Objective(rectified(), dtype=torch.float64)
    operator = LayerGaussNewton(objective, "2", "weight", budget=budget)
    matrix = operator.dense()
    assert operator.num_products == 0
    torch.testing.assert_close(matrix, operator @ torch.eye(operator.size).double(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", ["rectified", "dead_relu"])
def test_in_a_piecewise_linear_network_it_is_the_hessian(name: str) -> None:
    """D1 of the paper's card: the relative Frobenius error is at most 1e-8, and the block is semidefinite."""
    solution = ALL[name]()
    objective = Objective(solution, dtype=torch.float64)
    truth = dense_hessian(solution)
    for layer in affine_layers(objective)[0]:
        places = positions(objective, layer.names)
        block = truth[places][:, places]
        error = float((LayerGaussNewton(objective, layer.name).dense() - block).norm() / block.norm())
        assert error <= 1e-8
        assert float(torch.linalg.eigvalsh(block).min()) > -1e-12


@pytest.mark.parametrize("budget", [0, 1200, None])
def test_memory_changes_no_number(budget: int | None) -> None:
    objective = Objective(rectified(), dtype=torch.float64)
    operator = LayerGaussNewton(objective, "2", budget=budget)
    vector = random(operator.size).double()
    first, again = operator @ vector, operator @ vector
    assert torch.equal(first, again)
    assert torch.equal(first, LayerGaussNewton(objective, "2") @ vector)
    assert operator.num_kept == {0: 0, 1200: 2, None: 4}[budget]


@pytest.mark.parametrize("make", [language, regression, mlp])
def test_no_batching_changes_it(make: object) -> None:
    vectors = []
    for batch_size in (17, 4):
        solution = mlp(batch_size) if make is mlp else make()  # type: ignore[operator]
        data = solution.task.splits["train"]
        object.__setattr__(data, "batch_size", batch_size)
        objective = Objective(solution, dtype=torch.float64)
        operator = LayerGaussNewton(objective, affine_layers(objective)[0][0].name)
        vectors.append(operator @ random(operator.size).double())
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-12, atol=1e-14)


def test_it_works_in_every_gradient_mode_and_in_the_networks_own_precision() -> None:
    solution = mlp()
    operator = LayerGaussNewton(Objective(solution), "2")
    vector = random(operator.size)
    plain = operator @ vector
    assert plain.dtype == torch.float32
    truth = LayerGaussNewton(Objective(mlp(), dtype=torch.float64), "2") @ vector.double()
    torch.testing.assert_close(plain.double(), truth, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(LayerGaussNewton(Objective(solution), "2") @ vector, plain)
    with torch.inference_mode():
        assert torch.equal(LayerGaussNewton(Objective(solution), "2", budget=0) @ vector, plain)


def test_what_has_no_matrix_is_refused() -> None:
    with pytest.raises(ModelError, match="hooked is none, because its weights act in another way"):
        LayerGaussNewton(Objective(odd()), "hooked")
    with pytest.raises(ModelError, match="a bias of its own"):
        LayerGaussNewton(Objective(tied()), "there", part="bias")
