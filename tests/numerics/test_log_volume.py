"""Log-volumes against bodies whose volume is known: balls, ellipsoids, lp balls; intervals that cover; honest doubt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import gammaln

from vallis.core.errors import SettingsError, UsageError
from vallis.core.rng import Rng
from vallis.numerics.log_volume import (
    LogVolume,
    effective_sample_size,
    log_ball_volume,
    log_mean_exp,
    log_volume,
    log_volume_ratio,
)

Floats = np.ndarray


def units(num_rays: int, size: int, seed: int = 0) -> Floats:
    drawn = np.random.default_rng(seed).standard_normal((num_rays, size))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def lp_ball(size: int, p: float) -> float:
    """``(2 Gamma(1 + 1/p))^n / Gamma(1 + n/p)``."""
    return float(size * (math.log(2) + gammaln(1 + 1 / p)) - gammaln(1 + size / p))


def lp_radii(directions: Floats, p: float) -> Floats:
    return -np.log((np.abs(directions) ** p).sum(1)) / p


def test_balls() -> None:
    assert [math.exp(log_ball_volume(n)) for n in (1, 2, 3)] == pytest.approx([2, math.pi, 4 * math.pi / 3])
    found = log_volume(np.full(5, math.log(0.3)), 3457, rng=Rng(0))
    assert found.value == pytest.approx(log_ball_volume(3457) + 3457 * math.log(0.3), rel=1e-12)
    assert found.stderr == pytest.approx(0.0, abs=1e-9) or not found.is_resolved
    assert found.effective_sample_size == pytest.approx(5)
    assert found.typical == pytest.approx(found.value)


@pytest.mark.parametrize("size", [2, 3, 5, 10, 20])
@pytest.mark.parametrize("p", [1.0, 4.0])
def test_lp_balls_within_three_standard_errors(size: int, p: float) -> None:
    found = log_volume(lp_radii(units(4000, size), p), size, rng=Rng(0))
    exact = lp_ball(size, p)
    assert found.is_resolved and found.stderr is not None
    assert abs(found.value - exact) <= 3 * found.stderr
    assert found.stderr < 0.2
    assert found.typical < exact + 3 * found.typical_stderr  # type: ignore[operator]


def test_a_body_that_is_too_long_for_its_rays_says_so() -> None:
    """Ten rays of the cube in 200 dimensions: the estimate is far too low, and without an error bar."""
    found = log_volume(lp_radii(units(10, 200), 1.0), 200, rng=Rng(0))
    axes = np.linspace(-3, 3, 200)
    ellipsoid = -0.5 * np.log((np.exp(-2 * axes) * units(50, 200) ** 2).sum(1))
    long = log_volume(ellipsoid, 200, rng=Rng(0))
    exact = log_ball_volume(200, float(axes.mean()))
    assert not long.is_resolved and long.stderr is None
    assert long.effective_sample_size < 5
    assert long.value < exact - 20
    assert long.interval[1] < exact  # the interval, too, is then far off
    assert found.num_rays == 10


def test_intervals_cover_in_few_dimensions() -> None:
    """Two hundred repeats with 100 rays of an ellipse in 2 to 5 dimensions: of 95 % intervals at least 88 % cover."""
    covered = {}
    for size in (2, 3, 5):
        axes = np.linspace(-0.5, 0.5, size)
        exact, hits, within = log_ball_volume(size, float(axes.mean())), 0, 0
        for seed in range(200):
            radii = -0.5 * np.log((np.exp(-2 * axes) * units(100, size, seed) ** 2).sum(1))
            found = log_volume(radii, size, rng=Rng(seed), num_resamples=200)
            assert found.stderr is not None
            hits += found.interval[0] <= exact <= found.interval[1]
            within += abs(found.value - exact) <= 1.96 * found.stderr
        covered[size] = (hits / 200, within / 200)
    assert all(0.88 <= share <= 1.0 for shares in covered.values() for share in shares), covered


def test_an_error_bar_is_there_only_where_it_means_something() -> None:
    """Normal logarithms with a growing spread: the mean is known, and where an error bar is given it holds."""
    for spread in (0.3, 1.0, 2.0, 4.0):
        misses: list[float] = []
        for seed in range(60):
            terms = np.random.default_rng(seed).normal(0, spread, 400)
            found = log_volume(terms, 1, rng=Rng(0), num_resamples=10)
            if found.stderr is not None:
                misses.append((found.value - log_ball_volume(1) - spread**2 / 2) / found.stderr)
        assert bool(misses) == (spread < 2)
        if misses:
            assert np.sqrt(np.mean(np.square(misses))) < 1.4


def test_radii_of_zero_count_as_rays() -> None:
    some = log_volume([0.0, 0.0, -np.inf, -np.inf], 3, rng=Rng(0))
    assert some.value == pytest.approx(log_ball_volume(3) - math.log(2))
    none = log_volume([-np.inf, -np.inf], 3, rng=Rng(0))
    assert none.value == -np.inf and none.typical == -np.inf and none.stderr is None
    assert none.effective_sample_size == 0 and not none.is_resolved


def test_weights_are_those_of_the_directions() -> None:
    """Half of the directions on the circle drawn three times as often as the other half, radius 2 there, else 1."""
    generator = np.random.default_rng(0)
    often = generator.random(4000) < 0.75
    weights = np.log(np.where(often, 0.5 / 0.75, 0.5 / 0.25))
    found = log_volume(np.log(np.where(often, 2.0, 1.0)), 2, rng=Rng(0), log_weights=weights)
    assert found.stderr is not None
    assert abs(found.value - math.log(math.pi * 2.5)) <= 3 * found.stderr


def test_the_mean_of_exponentials_neither_overflows_nor_vanishes() -> None:
    for shift in (-1e6, 0.0, 1e6):
        values = np.array([[0.0, math.log(3)]]) + shift
        np.testing.assert_allclose(log_mean_exp(values) - shift, math.log(2), atol=1e-9)
    assert np.isneginf(log_mean_exp(np.array([-np.inf, -np.inf])))
    assert effective_sample_size(np.array([0.0, 0.0, -1e9])) == pytest.approx(2)


def test_a_resample_seldom_misses_the_longest_ray_and_then_does_not_vanish() -> None:
    found = log_volume([0.0, *[-5.0] * 50], 1000, rng=Rng(0))
    assert np.isfinite(found.interval).all()
    assert found.interval[0] == pytest.approx(log_ball_volume(1000) - 5000, abs=1)


@pytest.mark.parametrize("is_paired", [True, False])
def test_the_ratio_of_two_bowls_is_in_closed_form(is_paired: bool) -> None:
    """Radii sqrt(2 cutoff / k) in every direction: ``log10 V_a / V_b = n/2 log10(k_b / k_a)`` (card 1, A5)."""
    n, (a, b) = 3457, (2.0, 50.0)
    radii = [np.full(20, 0.5 * math.log(0.2 / k)) for k in (a, b)]
    found = log_volume_ratio(*radii, n, rng=Rng(0), is_paired=is_paired)
    exact = n / 2 * math.log10(b / a)
    assert found.value == pytest.approx(exact, rel=1e-12) == found.typical
    assert found.interval == pytest.approx((exact, exact))


def test_pairs_make_the_interval_narrower() -> None:
    axes = np.linspace(-0.5, 0.5, 6)
    one = -0.5 * np.log((np.exp(-2 * axes) * units(300, 6) ** 2).sum(1))
    other = one - 0.1 + 0.01 * np.random.default_rng(1).standard_normal(300)
    paired, apart = (log_volume_ratio(one, other, 6, rng=Rng(0), is_paired=pairs) for pairs in (True, False))
    assert paired.value == apart.value
    assert np.diff(paired.interval)[0] < 0.3 * np.diff(apart.interval)[0]
    assert paired.typical_stderr < 0.3 * apart.typical_stderr  # type: ignore[operator]
    assert paired.interval[0] < paired.value < paired.interval[1]
    assert paired.is_resolved


def test_same_stream_same_bits() -> None:
    radii = lp_radii(units(50, 4), 1.0)
    found: list[LogVolume] = [log_volume(radii, 4, rng=Rng(3)) for _ in range(2)]
    assert found[0] == found[1] != log_volume(radii, 4, rng=Rng(4))


@pytest.mark.parametrize(
    ("radii", "options"),
    [([], {}), ([np.nan], {}), ([np.inf], {}), ([0.0], {"log_weights": [0.0, 0.0]}), ([[0.0]], {})],
)
def test_what_is_no_ray_is_refused(radii: list[float], options: dict[str, list[float]]) -> None:
    with pytest.raises(UsageError):
        log_volume(radii, 3, rng=Rng(0), **options)  # type: ignore[arg-type]


def test_impossible_questions_are_refused() -> None:
    for wrong in ({"level": 1.0}, {"num_resamples": 0}):
        with pytest.raises(SettingsError):
            log_volume([0.0], 3, rng=Rng(0), **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is_paired"):
        log_volume_ratio([0.0], [0.0, 0.0], 3, rng=Rng(0))
    with pytest.raises(UsageError, match="all 0"):
        log_volume_ratio([0.0], [-np.inf], 3, rng=Rng(0))


def test_a_single_ray_has_no_error_bar() -> None:
    found = log_volume([0.0], 3, rng=Rng(0))
    assert (found.stderr, found.typical_stderr, found.spread) == (None, None, None)
