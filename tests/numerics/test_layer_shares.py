"""Shares of layers in a direction, against the dense Hessian."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.solutions import mlp
from vallis.core.objective import Objective
from vallis.numerics.affine import owners
from vallis.numerics.curvature import Hessian, positions
from vallis.numerics.layer_shares import layer_shares
from vallis.testing.oracles import dense_hessian


@pytest.mark.parametrize("place", [-1, -2, 0])
def test_shares_are_those_of_the_dense_eigenvector(place: int) -> None:
    solution = mlp()
    objective = Objective(solution, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(dense_hessian(solution))
    value, vector = float(values[place]), vectors[:, place]
    layers = list(owners(objective).values())
    found = layer_shares(objective, vector, value, layers, [Hessian(objective, only=names) for names in layers])
    hessian = dense_hessian(solution)
    for number, names in enumerate(layers):
        places = positions(objective, names)
        part = vector[places]
        assert found.of_length[number] == pytest.approx(float(part @ part))
        # What the layer does with all others is its share of the length times the eigenvalue.
        assert found.of_length[number] == pytest.approx(float(part @ (hessian @ vector)[places]) / value)
        assert found.alone[number] == pytest.approx(float(part @ hessian[places][:, places] @ part) / value)
    np.testing.assert_allclose(found.of_length.sum(), 1)
    outside = hessian.clone()
    for names in layers:
        places = positions(objective, names)
        outside[places[:, None], places] = 0
    assert found.between == pytest.approx(float(vector @ outside @ vector) / value)


def test_a_single_layer_has_all_of_it() -> None:
    solution = mlp()
    objective = Objective(solution, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(dense_hessian(solution))
    found = layer_shares(objective, vectors[:, -1], float(values[-1]), [objective.names], [Hessian(objective)])
    assert found.of_length[0] == pytest.approx(1)
    assert found.between == pytest.approx(0, abs=1e-9)
