"""Spans of solutions: distances are kept, principal components are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from tests.numerics.solutions import mlp, random
from vallis.core.errors import UsageError
from vallis.core.objective import Objective
from vallis.numerics.slices import line
from vallis.numerics.spans import between, coordinates_in, plane_through, point_of, trajectory_span


def points(num: int, spread: float = 0.01) -> list[tuple[torch.Tensor, ...]]:
    """Points near a plane of two dimensions, further out along the first axis."""
    axes = [(random(2, 3, seed=10 + place).double(), random(4, seed=20 + place).double()) for place in range(2)]
    noise = [(random(2, 3, seed=30 + t).double(), random(4, seed=60 + t).double()) for t in range(num)]
    return [
        tuple(
            3 * np.cos(t) * one + np.sin(2 * t) * two + spread * rest
            for one, two, rest in zip(*axes, noise[t], strict=True)
        )
        for t in range(num)
    ]


def flat(point: tuple[torch.Tensor, ...]) -> np.ndarray:
    return torch.cat([value.reshape(-1) for value in point]).numpy()


def test_between_leads_from_one_to_the_other() -> None:
    solution = mlp(double=True)
    objective = Objective(solution)
    start = point_of(solution)
    end = tuple(value + 0.1 for value in start)
    direction = between(start, end)
    assert line(objective, direction, [0.0, 1.0])[1] == pytest.approx(objective.value(end), rel=1e-12)


def test_the_plane_through_three_points_holds_them_at_their_distances() -> None:
    a, b, c = points(3)
    span = plane_through(a, b, c)
    placed = span.coordinates
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        apart = np.linalg.norm(flat((a, b, c)[i]) - flat((a, b, c)[j]))
        assert np.linalg.norm(placed[i] - placed[j]) == pytest.approx(apart)
    back = [o + placed[2, 0] * u + placed[2, 1] * v for o, u, v in zip(span.origin, *span.directions, strict=True)]
    torch.testing.assert_close(tuple(back), c)
    assert placed[1, 1] == pytest.approx(0.0, abs=1e-12)


def test_three_points_on_a_line_are_refused() -> None:
    a, b, _ = points(3)
    with pytest.raises(UsageError, match="not on one line"):
        plane_through(a, b, tuple(2 * y - x for x, y in zip(a, b, strict=True)))


def test_components_around_the_mean_are_those_of_scikit_learn() -> None:
    trajectory = points(12)
    found = trajectory_span(trajectory, num=3, centre="mean")
    reference = PCA(n_components=3).fit(np.stack([flat(point) for point in trajectory]))
    np.testing.assert_allclose(found.explained_fraction, reference.explained_variance_ratio_, rtol=1e-8)
    for direction, axis in zip(found.directions, reference.components_, strict=True):
        assert abs(flat(direction) @ axis) == pytest.approx(1.0, abs=1e-8)


def test_seen_from_the_end_the_trajectory_ends_in_the_middle() -> None:
    trajectory = points(8, spread=0.0)
    found = trajectory_span(trajectory)
    np.testing.assert_allclose(found.coordinates[-1], 0.0, atol=1e-12)
    np.testing.assert_allclose(found.explained_fraction.sum(), 1.0, rtol=1e-8)
    place, far = coordinates_in(found, trajectory[3])
    np.testing.assert_allclose(place, found.coordinates[3], atol=1e-9)
    assert far == pytest.approx(0.0, abs=1e-6)
    largest = np.abs(found.coordinates).argmax(0)
    assert (np.take_along_axis(found.coordinates, largest[None], 0) > 0).all()


def test_too_few_points_and_other_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="between 1 and 1 directions"):
        trajectory_span(points(2))
    a, b = points(2)
    with pytest.raises(UsageError, match="points of one network"):
        between(a, (b[0],))
