"""First crossings against closed forms: powers, exponentials, steps, plateaus, bumps, and what is no number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vallis.numerics.crossings import Crossings, Floats, Ints, first_crossings

SCALES = 10 ** np.random.default_rng(0).uniform(0, 6, 200)
CUTOFF = 0.1

Curve = Callable[[Floats, Floats], Floats]
# By name: the loss from scale k and step c, where it starts, the exact crossing, and the most evaluations on average.
CURVES: dict[str, tuple[Curve, float, Curve, float]] = {
    "quadratic": (lambda k, c: k * c**2 / 2, 0.0, lambda k, c: np.sqrt(0.2 / k), 4.0),
    "raised": (lambda k, c: 0.03 + k * c**2 / 2, 0.03, lambda k, c: np.sqrt(0.14 / k), 4.0),
    "linear": (lambda k, c: k * c, 0.0, lambda k, c: 0.1 / k, 10.0),
    "seventh power": (lambda k, c: (k * c) ** 7, 0.0, lambda k, c: 0.1 ** (1 / 7) / k, 9.0),
    "root": (lambda k, c: np.sqrt(k * c), 0.0, lambda k, c: 0.01 / k, 11.0),
    "exponential": (lambda k, c: np.expm1(np.minimum(k * c, 700)), 0.0, lambda k, c: np.log(1.1) / k, 11.0),
    "step": (lambda k, c: 1.0 * (c > 1 / k), 0.0, lambda k, c: 1 / k, 18.0),
    "step to NaN": (lambda k, c: np.where(c > 1 / k, np.nan, 0.0), 0.0, lambda k, c: 1 / k, 16.0),
    "step to infinity": (lambda k, c: np.where(c > 1 / k, np.inf, 0.0), 0.0, lambda k, c: 1 / k, 16.0),
    "plateau just above": (lambda k, c: np.where(c > 1 / k, 0.1001, 0.0), 0.0, lambda k, c: 1 / k, 40.0),
    "plateau just below": (lambda k, c: np.where(c > 1 / k, 0.2, 0.09999), 0.0999, lambda k, c: 1 / k, 22.0),
    "below the centre first": (lambda k, c: 0.05 - k * c + (k * c) ** 2, 0.05, lambda k, c: _root() / k, 14.0),
}


def _root() -> float:
    return (1 + np.sqrt(1.2)) / 2


def crossings(curve: Curve, centre: float, **options: object) -> Crossings:
    def losses(rays: Ints, steps: Floats) -> Floats:
        assert (steps > 0).all()
        return curve(SCALES[rays], steps)

    return first_crossings(losses, len(SCALES), centre=centre, cutoff=CUTOFF, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("tolerance", [0.01, 1e-4])
def test_crossings_are_found_to_tolerance_and_certified(name: str, tolerance: float) -> None:
    curve, centre, exact, _ = CURVES[name]
    found = crossings(curve, centre, tolerance=tolerance)
    expected = np.minimum(exact(SCALES, SCALES), 1.0)
    np.testing.assert_allclose(found.radii, expected, rtol=tolerance)
    inside = ~found.is_capped
    assert (found.upper / found.lower)[inside].max() <= 1 + tolerance * 1.0001
    with np.errstate(invalid="ignore"):
        assert (curve(SCALES, found.lower) < CUTOFF).all()
        assert not (curve(SCALES, found.upper) < CUTOFF)[inside].any()
    assert ((found.lower <= found.radii) & (found.radii <= found.upper)).all()


@pytest.mark.parametrize("name", CURVES)
def test_evaluations_are_few(name: str) -> None:
    curve, centre, _, most = CURVES[name]
    assert crossings(curve, centre).num_evaluations.mean() <= most


def test_what_is_almost_a_quadratic_takes_three_from_nearby() -> None:
    """From a start within a factor of two: there, the secant, and the other side of the bracket."""
    count = []
    for factor in (0.5, 0.9, 1.1, 2.0):
        start = factor * np.sqrt(0.2)
        found = first_crossings(lambda rays, c: c**2 / 2 + 0.1 * c**4, 1, centre=0.0, cutoff=CUTOFF, start=start)
        count.append(int(found.num_evaluations[0]))
    assert max(count) <= 4


def test_finished_rays_are_left_alone() -> None:
    calls: list[Ints] = []

    def losses(rays: Ints, steps: Floats) -> Floats:
        calls.append(rays)
        return np.where(rays == 0, steps**2 / 2, 1.0 * (steps > 0.777))

    found = first_crossings(losses, 2, centre=0.0, cutoff=CUTOFF)
    assert list(calls[-1]) == [1]
    assert len(calls) == found.num_evaluations.max()
    assert found.num_evaluations[0] < found.num_evaluations[1]


def test_the_cap_is_the_radius_of_what_stays_below() -> None:
    found = first_crossings(lambda rays, c: np.zeros_like(c), 3, centre=0.0, cutoff=CUTOFF, cap=0.7)
    np.testing.assert_allclose(found.radii, 0.7, rtol=1e-15)
    assert found.is_capped.all() and np.isinf(found.upper).all()
    at_cap = first_crossings(lambda rays, c: np.where(c >= 0.69999, 1.0, 0.0), 1, centre=0.0, cutoff=CUTOFF, cap=0.7)
    assert not at_cap.is_capped.any()
    assert at_cap.radii[0] == pytest.approx(0.7, rel=0.01)


def test_a_centre_above_the_cutoff_has_radius_zero_and_costs_nothing() -> None:
    for centre in (0.1, 0.5, np.inf, np.nan):
        found = first_crossings(lambda rays, c: 1 / 0, 2, centre=centre, cutoff=CUTOFF)  # type: ignore[arg-type, return-value]
        assert found.radii.tolist() == [0, 0] and not found.is_capped.any()
        assert found.num_evaluations.sum() == 0


def test_a_loss_that_jumps_at_once_has_radius_zero() -> None:
    found = first_crossings(lambda rays, c: np.ones_like(c), 1, centre=0.0, cutoff=CUTOFF)
    assert found.radii[0] == 0.0 and found.lower[0] == 0.0 and found.upper[0] <= 1e-12


def bumpy(rays: Ints, c: Floats) -> Floats:
    """A bowl with a wall at 0.1 to 0.12 that is easily jumped over."""
    return c**2 / 2 + 0.2 * ((c > 0.1) & (c < 0.12))


def test_an_earlier_crossing_is_found_by_looking_for_it() -> None:
    over = first_crossings(bumpy, 1, centre=0.0, cutoff=CUTOFF, start=0.3)
    assert over.radii[0] == pytest.approx(np.sqrt(0.2), rel=0.01)
    assert not over.is_earlier[0]
    seen = first_crossings(bumpy, 1, centre=0.0, cutoff=CUTOFF, start=0.3, num_scans=30)
    assert seen.radii[0] == pytest.approx(0.1, rel=0.01)
    assert seen.is_earlier[0]
    np.testing.assert_array_equal(seen.num_evaluations > over.num_evaluations + 30, [True])


def test_looking_changes_nothing_where_there_is_nothing_earlier() -> None:
    curve, centre, _, _ = CURVES["quadratic"]
    one, other = crossings(curve, centre), crossings(curve, centre, num_scans=5)
    np.testing.assert_array_equal(one.radii, other.radii)
    assert not other.is_earlier.any()
    assert (other.num_evaluations == one.num_evaluations + 5).all()


def test_finished_rays_are_reported() -> None:
    """As they are finished, each once, whatever is looked at afterwards."""
    told: list[int] = []
    slopes = np.array([1.0, 0.2, 3.0, 50.0, 1e-3])
    powers = np.array([1.0, 2.0, 0.3, 1.0, 4.0])
    first_crossings(
        lambda rays, c: slopes[rays] * c ** powers[rays], 5, centre=0.0, cutoff=CUTOFF, num_scans=3, done=told.append
    )
    assert sum(told) == 5
    assert sum(count > 0 for count in told) > 2
    told.clear()
    first_crossings(lambda rays, c: c, 5, centre=1.0, cutoff=CUTOFF, done=told.append)
    assert told == [5]


def test_groups_are_joined_in_order() -> None:
    groups = ((2, 0.2), (1, 0.3))
    parts = [first_crossings(lambda rays, c: c, count, centre=0.0, cutoff=cutoff) for count, cutoff in groups]
    found = Crossings.joined(parts)
    np.testing.assert_allclose(found.radii, [0.2, 0.2, 0.3], rtol=0.01)
    assert len(found) == 3
