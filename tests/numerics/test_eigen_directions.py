"""Eigenvectors as directions, against a dense Hessian by autograd in float64."""

from __future__ import annotations

import pytest
import torch

from tests.numerics.solutions import mlp
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.directions import filter_lengths
from vallis.numerics.eigen_directions import FilterScaledHessian, hessian_directions
from vallis.numerics.slices import line

RNG = Rng(0)


@pytest.fixture(scope="module")
def objective() -> Objective:
    return Objective(mlp(double=True))


def dense_hessian(objective: Objective) -> torch.Tensor:
    def loss(vector: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=vector.dtype)
        for term in objective.terms():
            total = total + term.share * term.loss(objective.point(vector))
        return total

    found: torch.Tensor = torch.autograd.functional.hessian(loss, objective.vector(objective.origin))
    return found


def test_they_are_the_eigenvectors_of_the_hessian(objective: Objective) -> None:
    found = hessian_directions(objective, largest=2, smallest=1, rng=RNG)
    values, vectors = torch.linalg.eigh(dense_hessian(objective))
    for direction, place in [(found.largest[0], -1), (found.largest[1], -2), (found.smallest[0], 0)]:
        cosine = abs(float(objective.vector(direction) @ vectors[:, place]))
        assert cosine == pytest.approx(1.0, abs=1e-6)
    assert found.spectrum.largest.values == pytest.approx(values.flip(0)[:2].numpy(), rel=1e-8)


def test_the_line_along_one_bends_by_its_eigenvalue(objective: Objective) -> None:
    found = hessian_directions(objective, largest=1, rng=RNG)
    step = 1e-3
    below, here, above = line(objective, found.largest[0], [-step, 0.0, step])
    assert (below - 2 * here + above) / step**2 == pytest.approx(found.spectrum.largest.values[0], rel=1e-4)


def test_scaled_to_filters_it_is_the_hessian_between_scales(objective: Objective) -> None:
    scales = objective.vector(filter_lengths(objective.origin))
    expected = scales[:, None] * dense_hessian(objective) * scales
    operator = FilterScaledHessian(objective)
    torch.testing.assert_close(operator.dense(), expected, rtol=1e-8, atol=1e-10)
    found = hessian_directions(objective, largest=1, rng=RNG, filter_scaled=True)
    value, vectors = (part[..., -1] for part in torch.linalg.eigh(expected))
    assert found.spectrum.largest.values[0] == pytest.approx(float(value), rel=1e-8)
    direction = objective.vector(found.largest[0])
    assert torch.cosine_similarity(direction, scales * vectors, dim=0).abs() == pytest.approx(1.0, abs=1e-6)
    moved = scales > 0
    assert float((direction[moved] / scales[moved]).norm()) == pytest.approx(1.0)


def test_the_sign_is_fixed(objective: Objective) -> None:
    for seed in range(3):
        (direction,) = hessian_directions(objective, largest=1, rng=Rng(seed)).largest
        vector = objective.vector(direction)
        assert float(vector[vector.abs().argmax()]) > 0
