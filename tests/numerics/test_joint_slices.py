"""Slices of several networks at once are the slices of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.populations import Make, small, solutions
from tests.numerics.test_population import convolutional, normalised
from vallis.core.objective import Objective, Point
from vallis.numerics.at import objective_of
from vallis.numerics.joint_slices import landscapes
from vallis.numerics.population import Population
from vallis.numerics.slices import Landscape

POINTS = [(0.0, 0.0), (0.5, 0.0), (0.5, -1.0), (0.0, 2.0)]


def prepared(make: Make = small, count: int = 4, **how: object) -> tuple[list[Objective], list[list[Point]]]:
    objectives = [objective_of(each) for each in solutions(make, count=count, **how)]  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(3)

    def direction(objective: Objective) -> Point:
        return [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in objective.origin]

    return objectives, [[direction(each), direction(each)] for each in objectives]


@pytest.mark.parametrize(("make", "shape"), [(small, (3,)), (normalised, (3,)), (convolutional, (1, 8, 8))])
@pytest.mark.parametrize("own", [False, True])
def test_losses_are_those_of_each(make: Make, shape: tuple[int, ...], own: bool) -> None:
    objectives, directions = prepared(make, shape=shape, own_x=own, own_y=own)
    found = landscapes(objectives, directions.__getitem__)
    assert sorted(found) == [0, 1, 2, 3]
    for place, objective in enumerate(objectives):
        alone = Landscape(objective, directions[place])
        losses = found[place].losses(POINTS, "points")
        np.testing.assert_allclose(losses, alone.losses(POINTS), rtol=1e-11)
        assert losses[0] == objective.value()  # to the last bit
        straight = [value + 0.5 * way for value, way in zip(objective.origin, directions[place][0], strict=True)]
        assert losses[1] == pytest.approx(objective.value(straight), rel=1e-11)


@pytest.mark.parametrize("of", [None, 40])
def test_error_bars_are_those_of_each(of: int | None) -> None:
    objectives, directions = prepared(own_y=True)
    found = landscapes(objectives, directions.__getitem__)
    for place, objective in enumerate(objectives):
        one, other = (
            each.spread(POINTS, "points", of) for each in (found[place], Landscape(objective, directions[place]))
        )
        for name in ("losses", "errors", "rise_errors"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-13)


def test_the_points_of_all_are_computed_when_the_first_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    right: Callable[..., torch.Tensor] = Population.losses
    monkeypatch.setattr(Population, "losses", lambda *given: (counted.append(1), right(*given))[1])
    objectives, directions = prepared()
    found = landscapes(objectives, directions.__getitem__)
    for place in range(4):
        found[place].losses(POINTS)
    assert len(counted) == 3  # the origin is that of the networks alone
    found[0].losses(POINTS[1:2])
    found[1].losses(POINTS[2:3])
    assert len(counted) == 5


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (small, {"count": 2}),
        (lambda: nn.Sequential(nn.Linear(3, 2000), nn.Linear(2000, 4)), {}),
        (lambda: nn.Sequential(nn.Linear(3, 600), nn.Linear(600, 4)), {"num_examples": 400, "batch_size": 100}),
    ],
)
def test_where_nothing_is_gained_they_are_left_alone(make: Make, how: dict[str, int]) -> None:
    def directions(place: int) -> list[Point]:
        raise AssertionError("nobody needs to hold them")

    assert landscapes(prepared(make, **how)[0], directions) == {}
