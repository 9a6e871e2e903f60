"""Planes: through their points, orthonormal, and distances are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vallis.core.errors import UsageError
from vallis.numerics.planes import box_around, plane_through

POINTS = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_goes_through_its_points_and_keeps_distances() -> None:
    plane = plane_through(list(POINTS))
    places = plane.coordinates(POINTS)
    assert places[0].tolist() == [0.0, 0.0]
    assert places[1, 1] == pytest.approx(0.0, abs=1e-12)
    for one in range(3):
        torch.testing.assert_close(plane.at(*places[one].tolist()), POINTS[one])
        for other in range(3):
            apart = float((POINTS[one] - POINTS[other]).norm())
            assert float(np.linalg.norm(places[one] - places[other])) == pytest.approx(apart)
    np.testing.assert_allclose(plane.distances(POINTS), 0, atol=1e-12)
    assert float(plane.first @ plane.second) == pytest.approx(0, abs=1e-14)


def test_what_is_off_the_plane_has_a_foot_and_a_distance() -> None:
    plane = plane_through(list(torch.eye(3, dtype=torch.float64)))
    corner = torch.ones(1, 3, dtype=torch.float64)
    assert plane.distances(corner)[0] == pytest.approx(2 / 3**0.5)
    torch.testing.assert_close(plane.at(*plane.coordinates(corner)[0].tolist()), corner[0] / 3)


def test_a_grid_is_row_by_row() -> None:
    plane = plane_through(list(POINTS))
    grid = plane.grid([0.0, 1.0, 2.0], [0.0, 5.0])
    torch.testing.assert_close(grid[4], plane.at(1.0, 5.0))


def test_no_plane() -> None:
    a, b = POINTS[0], POINTS[1]
    for points, said in (([a, b, 2 * b - a], "on one line"), ([a, a, b], "two are one"), ([a, b], "three vectors")):
        with pytest.raises(UsageError, match=said):
            plane_through(points)


def test_a_box() -> None:
    assert box_around(np.array([[0.0, 0.0], [2.0, 1.0]]), margin=0.5) == (-1.0, 3.0, -1.5, 2.5)
    assert box_around(np.array([[0.0, 0.0], [2.0, 1.0]]), margin=0.0, square=False) == (0.0, 2.0, 0.0, 1.0)
