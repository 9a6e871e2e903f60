"""One run of the iteration: what it spends, where it begins and how it leaves off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.test_lanczos import MATRIX, TRUTH, P
from vallis.core.rng import Rng
from vallis.numerics.asking import answered
from vallis.numerics.hunt import Hunt, capacity
from vallis.numerics.operators import Dense
from vallis.numerics.wanted import Wanted


def hunt(tolerance: float = 1e-6, max_products: int = 500, **wanted: int) -> tuple[Hunt, Dense]:
    operator = Dense(MATRIX)
    return Hunt(operator, Wanted(**wanted), tolerance, max_products, Rng(0)), operator


def test_products_are_counted_as_they_are_made() -> None:
    running, operator = hunt(largest=4)
    found = answered(running.run(0, None, ()))
    assert found.num_products == operator.num_products
    np.testing.assert_allclose(found.largest.values, TRUTH[::-1][:4], rtol=1e-8)


@pytest.mark.parametrize("search", [3, 7])
def test_a_search_costs_what_was_asked_for(search: int) -> None:
    plain, _ = hunt(largest=4)
    searching, _ = hunt(largest=4)
    spent = answered(searching.run(search, None, ())).num_products - answered(plain.run(0, None, ())).num_products
    assert search <= spent <= search + 3


def test_a_start_is_a_product_like_any_other() -> None:
    running, operator = hunt(largest=2)
    vectors = torch.linalg.eigh(MATRIX).eigenvectors[:, -2:]
    found = answered(running.run(0, vectors, ()))
    assert found.num_products == operator.num_products <= 6
    assert found.converged


def test_no_more_products_than_allowed() -> None:
    for allowed in (1, 5, 15):
        running, operator = hunt(1e-12, allowed, largest=8)
        found = answered(running.run(10, None, ()))
        assert (found.stop, operator.num_products) == ("max_products", allowed)
        assert not found.converged


def test_room_is_bounded_by_bytes_and_by_what_is_wanted() -> None:
    assert capacity(Dense(MATRIX), 5) == 180
    wide = Dense(torch.zeros(1, 1))
    wide.size = 10**9
    assert capacity(wide, 5) == 25
    assert P < 10**9
