"""Eigenvalues along a path: the true ones at every look, for fewer products."""

from __future__ import annotations

import numpy as np
import torch

from tests.numerics.test_lanczos import P, decaying
from vallis.core.rng import Rng
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.operators import Dense
from vallis.numerics.tracking import track_eigenpairs


def path(num_looks: int = 12, speed: float = 0.02) -> list[torch.Tensor]:
    """Symmetric matrices whose eigenvectors turn, and one of whose small eigenvalues rises to be the largest."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(P, P, generator=generator, dtype=torch.float64)
    axes, _ = torch.linalg.qr(drawn)
    turning = torch.randn(P, P, generator=generator, dtype=torch.float64) / P**0.5
    turn = torch.linalg.matrix_exp(speed * (turning - turning.T))
    found = []
    for look in range(num_looks):
        values = decaying()
        values[30] = 2.0 * look
        found.append(axes * values @ axes.T)
        axes = turn @ axes
    return found


def test_values_are_true_at_every_look_though_one_rises_from_the_bulk() -> None:
    matrices = path()
    for matrix, found in zip(
        matrices,
        track_eigenpairs(map(Dense, matrices), largest=3, smallest=1, rng=Rng(0), tolerance=0.02, search=6),
        strict=True,
    ):
        truth = torch.linalg.eigvalsh(matrix).numpy()
        assert found.converged
        np.testing.assert_allclose(found.largest.values, truth[::-1][:3], rtol=0.02)
        np.testing.assert_allclose(found.smallest.values, truth[:1], rtol=0.02)


def test_looks_after_the_first_are_cheaper_than_from_nowhere() -> None:
    matrices = path(speed=0.003)
    warm = list(track_eigenpairs(map(Dense, matrices), largest=3, rng=Rng(0), tolerance=0.02, search=0))
    cold = [eigenpairs(Dense(matrix), largest=3, rng=Rng(0), tolerance=0.02) for matrix in matrices]
    assert sum(one.num_products for one in warm[1:]) < 0.8 * sum(one.num_products for one in cold[1:])


def test_operators_are_made_as_they_are_needed() -> None:
    made = []

    def making() -> object:
        for matrix in path(3):
            made.append(matrix)
            yield Dense(matrix)

    looks = track_eigenpairs(making(), largest=1, rng=Rng(0))  # type: ignore[arg-type]
    next(looks)
    assert len(made) == 1
