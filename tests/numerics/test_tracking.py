"""Eigenvalues along a path: the true ones at every look, for fewer products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.test_lanczos import P, decaying
from vallis.core.errors import UsageError
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


def test_eigenvalues_that_rise_from_the_bulk_are_not_missed() -> None:
    """The sharpest direction of each look is orthogonal to that of the last: without a search 32 of 60 are wrong."""
    axes, _ = torch.linalg.qr(torch.randn(P, P, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    drawn, misses, looks = np.random.default_rng(0), 0, 0
    for seed in range(6):
        matrices = []
        for look in range(10):
            values = np.concatenate([np.exp(drawn.uniform(-2.5, 1, 10)), 0.01 * np.abs(drawn.standard_t(3, P - 10))])
            values[look % 10] = 3.0
            matrices.append((axes * torch.from_numpy(values)) @ axes.T)
        found = track_eigenpairs(map(Dense, matrices), largest=1, rng=Rng(seed), tolerance=0.02)
        for spectrum in found:
            assert spectrum.converged
            misses, looks = misses + (abs(spectrum.largest.values[0] - 3.0) > 0.09), looks + 1
    assert (misses, looks) == (0, 60)


def test_operators_of_another_size_are_named() -> None:
    looks = track_eigenpairs([Dense(torch.eye(7)), Dense(torch.eye(9))], largest=1, rng=Rng(0))
    next(looks)
    with pytest.raises(UsageError, match="of one size were required, the first has size 7 and number 2 size 9"):
        next(looks)


def test_operators_are_made_as_they_are_needed() -> None:
    made = []

    def making() -> object:
        for matrix in path(3):
            made.append(matrix)
            yield Dense(matrix)

    looks = track_eigenpairs(making(), largest=1, rng=Rng(0))  # type: ignore[arg-type]
    next(looks)
    assert len(made) == 1
