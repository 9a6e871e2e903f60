"""Operators of low rank against their matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.solutions import random
from vallis.core.errors import UsageError
from vallis.numerics.low_rank import LowRank


def test_it_is_the_matrix() -> None:
    columns = random(7, 3).double()
    operator, dense = LowRank(columns), columns @ columns.T
    torch.testing.assert_close(operator.dense(), dense)
    assert operator.trace() == pytest.approx(float(dense.trace()))
    found = operator.largest()
    np.testing.assert_allclose(found.values, torch.linalg.eigvalsh(dense).flip(0)[:3])
    torch.testing.assert_close(dense @ found.vectors, found.vectors * torch.from_numpy(found.values))
    torch.testing.assert_close(found.vectors.T @ found.vectors, torch.eye(3, dtype=torch.float64))
    assert float(found.residuals.max()) < 1e-10
    assert len(operator.largest(2)) == 2


def test_more_columns_than_dimensions_and_columns_that_depend() -> None:
    columns = random(4, 9).double()
    assert len(LowRank(columns).largest()) == 4
    twice = torch.cat([columns[:, :2], 3 * columns[:, :2]], 1)
    found = LowRank(twice).largest()
    assert len(found) == 2
    np.testing.assert_allclose(found.values, torch.linalg.eigvalsh(twice @ twice.T).flip(0)[:2])
    assert len(LowRank(torch.zeros(4, 2)).largest()) == 0
    assert len(LowRank(torch.zeros(4, 0)).largest()) == 0


def test_columns_are_a_matrix() -> None:
    with pytest.raises(UsageError, match="stack them"):
        LowRank(torch.zeros(3))
