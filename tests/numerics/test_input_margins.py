"""Input margins: exact for linear scores and for a sphere, confirmed by the flip, never below the true distance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built, random
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.numerics.input_margins import input_margins


@pytest.mark.parametrize("num_classes", [2, 5])
def test_linear_classifiers_are_exact(num_classes: int) -> None:
    model = built(lambda: nn.Linear(7, num_classes)).double()
    x = random(30, 7).double()
    found = input_margins(model, x)
    with torch.no_grad():
        scores, weight = model(x), model.weight.detach()
    answers = scores.argmax(1)
    exact = []
    for row, answer in zip(scores, answers, strict=True):
        away = [
            float((row[answer] - row[k]) / (weight[answer] - weight[k]).norm())
            for k in range(num_classes)
            if k != int(answer)
        ]
        exact.append(min(away))
    torch.testing.assert_close(found.distances, torch.tensor(exact, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    assert bool(found.converged.all())
    assert found.answers.equal(answers)
    assert bool((found.rivals != answers).all())


class Ball(nn.Module):
    """Class 1 within a ball around a centre, class 0 outside of it: the distance is ``| |x - c| - r |``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        away = ((x.flatten(1) - 0.3) ** 2).sum(1)
        return torch.stack([away**2, away * 0 + 1.0], dim=1)


def test_a_ball_is_found_from_inside_and_from_outside() -> None:
    x = random(40, 2, 2).double() * 0.8
    found = input_margins(Ball(), x)
    exact = ((x.flatten(1) - 0.3).norm(dim=1) - 1).abs()
    torch.testing.assert_close(found.distances, exact, rtol=1e-3, atol=1e-6)
    assert bool(found.converged.all())
    assert found.points.shape == x.shape


def test_the_flip_is_real_and_the_way_is_at_a_right_angle() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3)), seed=3).double()
    with torch.no_grad():
        model[0].weight.mul_(3)
    x = random(60, 2).double()
    found = input_margins(model, x, max_refinements=60)
    reached = found.distances.isfinite()
    with torch.no_grad():
        flipped = model(found.points).argmax(1)
        before = x + (1 - 1e-6) * (found.points - x)
    assert bool((flipped != found.answers)[reached].all())
    assert flipped[reached].equal(found.rivals[reached])
    assert bool((model(before).argmax(1) == found.answers)[reached].all())
    torch.testing.assert_close((found.points - x).norm(dim=1)[reached], found.distances[reached])
    assert float(found.converged[reached].double().mean()) > 0.8
    # No point of a fine grid is across and nearer than what has converged, but for other branches of the boundary.
    axis = torch.linspace(-4, 4, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        classes = model(grid).argmax(1)
    nearest = torch.stack([
        (grid[classes != answer] - point).norm(dim=1).min()
        for point, answer in zip(x, found.answers, strict=True)
    ])  # fmt: skip
    assert bool((found.distances >= nearest - 0.03).all())
    close = (found.distances - nearest).abs() < 0.05
    assert float(close[reached].double().mean()) > 0.7


class Stripes(nn.Module):
    """Class 1 within 0.1 of x = 1 and beyond x = -3: from 0 gradients lead to the further boundary."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bump = 2 * torch.relu(1 - ((x[:, 0] - 1) / 0.1) ** 2)
        far = torch.sigmoid(-3 * (x[:, 0] + 3))
        return torch.stack([x[:, 0] * 0 + 0.5, bump + far], dim=1)


def test_a_way_begins_at_the_nearest_that_is_answered_otherwise() -> None:
    """The exact distance from the origin to the stripe is 1 - 0.1 sqrt(3/4) but for the tail of the far side."""
    x = torch.tensor([[0.0, 0.0], [0.1, 0.5]], dtype=torch.float64)
    stripe = torch.tensor([[-9.0, 0.0], [1.0, 0.3], [0.5, 0.0]], dtype=torch.float64)
    alone, guided = (input_margins(Stripes(), x, others=held, num_probes=0) for held in (None, stripe))
    assert bool((alone.distances > 2.5).all())
    exact = 1 - 0.1 * 0.75**0.5 - x[:, 0]
    torch.testing.assert_close(guided.distances, exact, atol=1e-3, rtol=0)
    assert bool(guided.converged.all())
    assert bool((Stripes()(guided.points).argmax(1) == 1).all())
    by_one = input_margins(Stripes(), x[:1], others=stripe, num_probes=0)
    assert by_one.distances.equal(guided.distances[:1])


class Corners(nn.Module):
    """Class 1 beyond x = 1, class 2 on a stripe at y = 0.6 that no gradient leads to."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stripe = torch.relu(1 - ((x[:, 1] - 0.6) / 0.1) ** 2)
        return torch.stack([x[:, 0] * 0 + 0.5, 10 * (x[:, 0] - 1), stripe], dim=1)


def test_ways_begin_at_the_nearest_of_several_classes() -> None:
    """The nearest example is of class 1, the nearest boundary that of class 2."""
    x, others = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[1.2, 0.0], [-1.3, 0.62]], dtype=torch.float64)
    found = input_margins(Corners(), x, others=others, num_probes=0)
    assert found.rivals.tolist() == [2] and bool(found.converged.all())
    assert float(found.distances) == pytest.approx(0.6 - 0.1 * 0.5**0.5, abs=1e-6)


def searched(model: nn.Module, point: torch.Tensor, most: float) -> float:
    """The nearest change of the answer on rings around a point, out to a distance."""
    angles = torch.linspace(0, 2 * torch.pi, 361, dtype=torch.float64)[:-1]
    around = torch.stack([angles.cos(), angles.sin()], 1)
    lengths = torch.linspace(0, 1.001, 151, dtype=torch.float64)[1:] * most
    with torch.no_grad():
        answers = model((point + lengths[:, None, None] * around).reshape(-1, 2)).argmax(1).view(150, 360)
        there = (answers != model(point[None]).argmax()).any(1)
    return float(lengths[there.double().argmax()]) if bool(there.any()) else most


def test_random_points_bring_the_distances_near_those_of_a_dense_search() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4)),
                  seed=1).double()  # fmt: skip
    with torch.no_grad():
        for layer in (0, 2):
            model[layer].weight.mul_(5)
            model[layer].bias.mul_(2)
    x = 1.5 * random(40, 2).double()
    found, without = (input_margins(model, x, tolerance=0.01, num_probes=number) for number in (128, 0))
    far = found.distances < 0.99 * without.distances
    assert bool(without.converged[far].any())
    ratios = [float(found.distances[k]) / searched(model, x[k], float(without.distances[k])) for k in range(40)]
    assert max(ratios) < 1.1


def test_random_points_are_the_same_for_every_input_and_come_of_the_stream() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 4)), seed=1).double()
    x = 2 * random(20, 2).double()
    others = x.clone()
    whole, again = (input_margins(model, x, others=others, rng=Rng(3)) for _ in range(2))
    assert whole.distances.equal(again.distances) and whole.converged.equal(again.converged)
    part = input_margins(model, x[5:9], others=others, rng=Rng(3))
    torch.testing.assert_close(part.distances, whole.distances[5:9], rtol=1e-9, atol=0)
    with pytest.raises(SettingsError, match="an Rng"):
        input_margins(model, x, rng=3)  # type: ignore[arg-type]


def test_without_a_boundary_there_is_no_distance() -> None:
    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([1 + x[:, 0] ** 2, -(x[:, 0] ** 2)], dim=1)

    found = input_margins(Sure(), random(4, 3), max_steps=5)
    assert bool(found.distances.isinf().all())
    assert not bool(found.converged.any())
    assert found.rivals.tolist() == [-1] * 4


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="a step"):
        input_margins(Ball(), random(3, 2), max_steps=0)
