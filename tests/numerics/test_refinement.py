"""Refined planes: cubics are exact, kinks are found, contours are as good as at three times the evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from vallis.core.errors import SettingsError
from vallis.numerics.refinement import Floats, refined_plane


class Counted:
    """A function of the plane that counts how often it is asked."""

    def __init__(self, function: object) -> None:
        self.function, self.asked = function, 0

    def __call__(self, points: Sequence[Sequence[float]]) -> Floats:
        self.asked += len(points)
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
    assert found.num_computed == cubic.asked == 13 * 13
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


def contour_error(losses: Floats, steps: Floats) -> float:
    """The share of the plane that lies on the wrong side of a contour, on the average of seven."""
    fine = np.linspace(-1, 1, 301)
    x, y = np.meshgrid(fine, fine)
    true = np.log(walls(x, y))
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
