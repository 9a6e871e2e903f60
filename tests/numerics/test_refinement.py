"""Refined planes: cubics are exact, kinks are found, contours are as good as at three times the evaluations, or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from vallis.core.errors import SettingsError
from vallis.numerics.refinement import Floats, refined_plane

Surface = Callable[[Floats, Floats], Floats]


class Counted:
    """A function of the plane that counts how often it is asked."""

    def __init__(self, function: object) -> None:
        self.function, self.asked = function, 0
        self.rounds: list[int] = []

    def __call__(self, points: Sequence[Sequence[float]]) -> Floats:
        self.asked += len(points)
        self.rounds.append(len(points))
        x, y = np.array(points).T
        return np.asarray(self.function(x, y), dtype=float)  # type: ignore[operator]


def walls(x: Floats, y: Floats) -> Floats:
    """A curved valley with steep walls and a kink, as the loss of a network of ReLU has them."""
    bent = y + 0.4 * x**2 - 0.1
    return 1.0 + 8 * bent**2 + 0.5 * x**2 + 3 * np.maximum(0.0, x - 0.45)


def test_a_cubic_is_predicted_exactly_and_costs_little() -> None:
    cubic = Counted(lambda x, y: 5 + x**3 - 2 * x * y + y**2)
    found = refined_plane(cubic, 1.0, is_log=False)
    x, y = np.meshgrid(found.steps, found.steps)
    np.testing.assert_allclose(found.losses, 5 + x**3 - 2 * x * y + y**2, atol=1e-12)
    assert found.num_computed == cubic.asked == 7 * 7
    assert found.losses.shape == (49, 49)


def test_what_was_computed_is_kept_to_the_bit_and_the_middle_is_the_origin() -> None:
    found = refined_plane(Counted(walls), 1.0)
    x, y = np.meshgrid(found.steps, found.steps)
    np.testing.assert_array_equal(found.losses[found.computed], walls(x, y)[found.computed])
    assert found.steps[24] == 0
    assert found.computed[24, 24]


def test_a_tighter_tolerance_costs_more_and_errs_less() -> None:
    x, y = np.meshgrid(*[refined_plane(Counted(walls), 1.0).steps] * 2)
    errors, costs = [], []
    for tolerance in (0.2, 0.02, 0.002):
        found = refined_plane(Counted(walls), 1.0, tolerance=tolerance)
        errors.append(np.abs(np.log(found.losses / walls(x, y))).max())
        costs.append(found.num_computed)
    assert costs == sorted(costs)
    assert errors[0] > errors[-1]
    assert costs[-1] < 49 * 49


def contour_error(losses: Floats, steps: Floats, surface: Surface = walls) -> float:
    """The share of the plane that lies on the wrong side of a contour, on the average of seven."""
    fine = np.linspace(-1, 1, 301)
    x, y = np.meshgrid(fine, fine)
    true = np.log(surface(x, y))
    drawn = RegularGridInterpolator((steps, steps), np.log(losses))(np.stack([y, x], axis=-1))
    levels = np.linspace(true.min(), true.max(), 9)[1:-1]
    return float(np.mean([np.mean((drawn > level) != (true > level)) for level in levels]))


def test_contours_are_as_good_at_a_third_of_the_evaluations() -> None:
    uniform = np.linspace(-1, 1, 25)
    x, y = np.meshgrid(uniform, uniform)
    counted = Counted(walls)
    found = refined_plane(counted, 1.0, tolerance=0.01, most=25 * 25 // 3)
    assert counted.asked <= 25 * 25 // 3
    assert contour_error(found.losses, found.steps) <= contour_error(walls(x, y), uniform)


def valley(x: Floats, y: Floats) -> Floats:
    """Narrow, kinked along its floor, and turned by 37 degrees."""
    along, across = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
    return 0.01 + 0.2 * along**2 + np.abs(across - 0.05) / 0.3


def bowl(x: Floats, y: Floats) -> Floats:
    return 1 + 3 * x**2 + 5 * y**2 + x * y


def crossing(x: Floats, y: Floats) -> Floats:
    return 0.1 + np.abs(x - 0.13) + np.abs(y + 0.29)


def wavy(x: Floats, y: Floats) -> Floats:
    return 2 + np.sin(4 * x) * np.cos(5 * y) + x**2


@pytest.mark.parametrize(
    ("surface", "most", "before"), [(bowl, 0.3, 0.3), (wavy, 0.4, 0.67), (walls, 0.9, 0.77), (valley, 1.2, 1.47)]
)
def test_contours_of_known_surfaces(surface: Surface, most: float, before: float) -> None:
    """Beside those of a full grid, at a third of its evaluations; `before` is what halving whole levels first gave."""
    uniform = np.linspace(-1, 1, 25)
    x, y = np.meshgrid(uniform, uniform)
    counted = Counted(surface)
    found = refined_plane(counted, 1.0, most=208)
    ratio = contour_error(found.losses, found.steps, surface) / contour_error(surface(x, y), uniform, surface)
    assert counted.asked <= 208
    assert ratio <= most
    assert found.is_rough == (ratio > 1)
    assert before < 1 or ratio < 0.85 * before


def test_a_surface_that_is_rough_says_so() -> None:
    assert refined_plane(Counted(lambda x, y: crossing(x - 0.3 * y, y)), 1.0, most=208).is_rough
    smooth = refined_plane(Counted(bowl), 1.0, most=208)
    assert np.isnan(smooth.gain) and not smooth.is_rough
    assert 0 < smooth.off < 0.05


def test_the_worst_squares_come_first_and_the_budget_is_kept() -> None:
    """A sharp pit off the middle: the points gather around it, and no more are computed than are allowed."""
    for most in (49, 60, 101, 208):
        counted = Counted(lambda x, y: 1 - 0.9 * np.exp(-60 * ((x - 0.4) ** 2 + (y + 0.2) ** 2)))
        found = refined_plane(counted, 1.0, most=most)
        assert 49 <= found.num_computed == counted.asked <= most
        assert len(counted.rounds) <= 12
    x, y = np.meshgrid(found.steps, found.steps)
    near = (x - 0.4) ** 2 + (y + 0.2) ** 2 < 0.3**2
    assert found.computed[near].mean() > 4 * found.computed[~near].mean()


def test_an_edge_of_what_is_finite_takes_its_share_and_no_more() -> None:
    counted = Counted(lambda x, y: np.where(x + 0.2 * y > 0.6, np.nan, 1 + x**2 + 2 * np.abs(y - 0.1)))
    found = refined_plane(counted, 1.0, most=208)
    x, y = np.meshgrid(found.steps, found.steps)
    assert counted.asked <= 208
    assert np.isnan(found.losses[x + 0.2 * y > 0.8]).all()
    inside = x + 0.2 * y < 0.4
    assert np.isfinite(found.losses[inside]).all()
    assert np.abs(np.log(found.losses / (1 + x**2 + 2 * np.abs(y - 0.1))))[inside].max() < 0.2


def test_nothing_finite_is_no_trouble() -> None:
    found = refined_plane(Counted(lambda x, y: np.full(len(x), np.inf)), 1.0)
    assert np.isinf(found.losses).all() and found.num_computed == 49
    on_a_line = refined_plane(Counted(lambda x, y: np.where(y == 0, 1.0 + x**2, np.inf)), 1.0, most=208)
    assert np.isfinite(on_a_line.losses[24]).all()


def test_losses_that_are_not_finite_are_kept_and_looked_at_closely() -> None:
    def cliff(x: Floats, y: Floats) -> Floats:
        return np.where(x > 0.6, np.inf, 1 + x**2 + y**2)

    found = refined_plane(Counted(cliff), 1.0)
    assert np.isinf(found.losses[:, -1]).all()
    assert np.isfinite(found.losses[:, 24]).all()


@pytest.mark.parametrize("wrong", [{"coarse": 6}, {"coarse": 3}, {"levels": 0}, {"tolerance": 0.0}, {"span": 0.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="coarse grid"):
        refined_plane(Counted(walls), **{"span": 1.0, **wrong})  # type: ignore[arg-type]
