"""Which places are wanted, and when a pair is good enough."""

from __future__ import annotations

import numpy as np
import pytest

from vallis.core.errors import SettingsError
from vallis.numerics.wanted import Standard, Wanted, value_errors

RISING = np.array([-5.0, -1.0, 0.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (Wanted(largest=2), [4, 5]),
        (Wanted(smallest=3), [0, 1, 2]),
        (Wanted(largest=1, smallest=1), [0, 5]),
        (Wanted(magnitude=2), [0, 5]),
        (Wanted(magnitude=4), [0, 3, 4, 5]),
        (Wanted(largest=5, smallest=4), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_places(wanted: Wanted, places: list[int]) -> None:
    assert wanted.places(RISING) == places


def test_what_is_kept_beyond_is_shared_between_the_ends() -> None:
    assert Wanted(largest=1, smallest=1).places(RISING, 2) == [0, 1, 4, 5]
    assert Wanted(largest=1).places(RISING, 2) == [3, 4, 5]
    assert Wanted(magnitude=1).places(RISING, 2) == [0, 4, 5]


@pytest.mark.parametrize("wrong", [{}, {"largest": -1}, {"largest": 1, "magnitude": 1}])
def test_impossible_wishes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="were required"):
        Wanted(**wrong)


def test_the_error_of_a_value_is_bounded_by_the_square_of_the_residual_over_the_gap() -> None:
    """For a matrix of two by two the bound is exact up to the fourth order."""
    coupling, gap = 1e-3, 0.5
    matrix = np.array([[1.0, coupling], [coupling, 1.0 - gap]])
    exact = np.linalg.eigvalsh(matrix)[-1] - 1.0
    told = value_errors(np.array([1.0]), np.array([coupling]), np.array([1.0 - gap]))
    assert told[0] == pytest.approx(exact, rel=1e-5)
    assert value_errors(np.array([1.0]), np.array([0.3]), np.array([0.9]))[0] == 0.3
    assert value_errors(np.array([1.0]), np.array([0.3]), np.array([]))[0] == 0.3


def test_a_small_residual_is_not_enough_beside_a_near_neighbour() -> None:
    standard = Standard(tolerance=1e-3, rounding=1e-16)
    values, residuals = np.array([0.1]), np.array([9e-4])
    assert standard.met(values, residuals, np.array([0.0]), 1.0).all()
    assert not standard.met(values, residuals, np.array([0.0995]), 1.0).any()
    assert not standard.met(values, np.array([2e-3]), np.array([-100.0]), 1.0).any()
