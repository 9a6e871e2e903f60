"""The elastic band finds the saddle of the Müller-Brown surface, whose height is known from the literature."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vallis.core.errors import SettingsError
from vallis.numerics.elastic_band import across, auto_neb
from vallis.numerics.path_slopes import Slope

# Müller and Brown (1979): two of its minima and the saddle between them, as in every textbook of reaction paths.
A, a, b, c = (-200.0, -100.0, -170.0, 15.0), (-1, -1, -6.5, 0.7), (0, 0, 11, 0.6), (-10, -10, -6.5, 0.7)
X, Y = (1, 0, -0.5, -1), (0, 0.5, 1.5, 1)
ENDS = [torch.tensor(p, dtype=torch.float64) for p in ((-0.558223635, 1.441725842), (0.623499405, 0.028037759))]
HIGHEST = -40.6648435


def surface(point: torch.Tensor) -> torch.Tensor:
    x, y = point
    terms = [
        A[k] * torch.exp(a[k] * (x - X[k]) ** 2 + b[k] * (x - X[k]) * (y - Y[k]) + c[k] * (y - Y[k]) ** 2)
        for k in range(4)
    ]
    return torch.stack(terms).sum()


def loss(point: torch.Tensor) -> float:
    return float(surface(point))


def slope(point: torch.Tensor) -> tuple[float, torch.Tensor]:
    leaf = point.detach().requires_grad_()
    value = surface(leaf)
    return float(value.detach()), torch.autograd.grad(value, leaf)[0]


def slopes() -> Slope:
    return slope


def test_the_saddle_of_the_muller_brown_surface() -> None:
    cycles = [(100, 2e-4), (40, 1e-4), (40, 1e-4)]
    band = auto_neb(slopes, loss, *ENDS, cycles=cycles, num_first=13, momentum=0.5)
    assert band.highest[0] > -15  # the straight line climbs the hill beside the pass
    assert band.highest[-1] == pytest.approx(HIGHEST, abs=0.5)
    assert band.path.controls[0].equal(ENDS[0]) and band.path.controls[-1].equal(ENDS[1])
    places = [band.path.write(t, torch.empty(2, dtype=torch.float64)).clone() for t in np.linspace(0, 1, 400).tolist()]
    top = max(places, key=loss)
    torch.testing.assert_close(top, torch.tensor([-0.822, 0.624], dtype=torch.float64), atol=0.06, rtol=0)


def test_pivots_come_where_the_loss_rises_between_them() -> None:
    """A narrow wall between two pivots: the first of the new ones stands on it."""

    def wall(point: torch.Tensor) -> float:
        return float(torch.exp(-(((point[0] - 0.3) / 0.05) ** 2)))

    def still() -> Slope:
        return lambda point: (wall(point), torch.zeros_like(point))

    start, end = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    band = auto_neb(still, wall, start, end, cycles=[(0, 0.1), (0, 0.1)], num_first=1, most_new=1)
    assert band.num_pivots == (1, 2)
    assert float(band.path.controls[1][0]) == pytest.approx(0.3)


def test_only_what_is_across_is_left() -> None:
    before, here, after = (torch.tensor(p) for p in ((-1.0, 0.0), (0.0, 0.0), (0.0, 2.0)))
    gradient = torch.tensor([3.0, 4.0])
    assert across(gradient, before, here, after, up=True).tolist() == [3.0, 0.0]
    assert across(gradient, before, here, after, up=False).tolist() == [0.0, 4.0]
    assert across(gradient, here, here, here, up=True).equal(gradient)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="a cycle"):
        auto_neb(slopes, loss, *ENDS, cycles=[])


def test_a_cycle_that_diverges_is_undone() -> None:
    quiet = auto_neb(slopes, loss, *ENDS, cycles=[(20, 1e-4)], num_first=5)
    wild = auto_neb(slopes, loss, *ENDS, cycles=[(20, 1e-4), (20, 1e30)], num_first=5, most_new=0)
    assert (quiet.num_diverged, wild.num_diverged) == (0, 1)
    assert all(one.equal(two) for one, two in zip(quiet.path.controls, wild.path.controls, strict=True))
    assert wild.highest[-1] == quiet.highest[-1]
