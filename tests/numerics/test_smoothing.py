"""The smoothed density against the exact spectrum smoothed alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from tests.numerics.test_density import RNG, found, must_cover
from tests.numerics.test_lanczos import TRUTH
from tests.numerics.test_quadrature import seen_by
from tests.numerics.test_spectra import rotated
from vallis.core.errors import SettingsError
from vallis.numerics.density import spectral_density
from vallis.numerics.operators import Dense
from vallis.numerics.quadrature import Recurrence
from vallis.numerics.smoothing import Kernel, _bounds, smoothed

LINEAR, LOG = Kernel(width=0.3), Kernel(width=0.25, scale="log", floor=1e-4)


def exact(points: np.ndarray, kernel: Kernel) -> np.ndarray:
    """A Gaussian for each true eigenvalue, written down anew."""
    if kernel.scale == "linear":
        distances = points[:, None] - TRUTH
    else:
        distances = (np.arcsinh(points[:, None] / 2e-4) - np.arcsinh(TRUTH / 2e-4)) / math.log(10)
    return np.asarray(stats.norm.pdf(distances, scale=kernel.width).mean(1))


@pytest.mark.parametrize("kernel", [LINEAR, LOG])
def test_the_band_covers_the_exact_spectrum_smoothed_alike(kernel: Kernel) -> None:
    points = np.array([-0.5, -1e-3, 0.0, 1e-3, 0.05, 1.0, 9.8])
    true, inside = exact(points, kernel), np.zeros(len(points), dtype=int)
    for repeat in range(200):
        curve = smoothed(found(repeat), points, kernel)
        assert (curve.low <= curve.value * (1 + 1e-9)).all()
        assert (curve.value <= curve.high * (1 + 1e-9)).all()
        inside += (curve.low <= true * (1 + 1e-6)) & (true * (1 - 1e-6) <= curve.high)
    for covered in inside:
        must_cover(int(covered))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 25), st.integers(1, 10), st.floats(0.05, 3.0))
def test_the_bounds_hold_for_what_a_single_probe_sees(seed: int, size: int, num_steps: int, width: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix, start = matrix + matrix.T, torch.randn(size, generator=generator, dtype=torch.float64)
    seen = Recurrence(Dense(matrix), start, num_steps).run(num_steps).quadrature()
    values, weights = seen_by(matrix, start)
    points, kernel = np.linspace(values[0] - 1, values[-1] + 1, 31), Kernel(width=width)
    low, high = _bounds(seen, points, kernel)
    true = stats.norm.pdf(points[:, None] - values, scale=width) @ weights
    assert (low <= true + 1e-9).all()
    assert (true <= high + 1e-9).all()


def test_a_solved_operator_is_smoothed_exactly() -> None:
    values = torch.linspace(-1.0, 3.0, 40, dtype=torch.float64)
    seen = spectral_density(Dense(rotated(values)), num_probes=1, num_steps=1, rng=RNG)
    points = np.linspace(-2, 4, 9)
    curve = smoothed(seen, points, LINEAR)
    expected = stats.norm.pdf(points[:, None] - values.numpy(), scale=0.3).mean(1)
    np.testing.assert_allclose((curve.low, curve.value, curve.high), [expected] * 3, rtol=1e-8)


@pytest.mark.parametrize("kernel", [LINEAR, LOG])
def test_the_area_is_one_on_the_axis_that_is_smoothed(kernel: Kernel) -> None:
    places = np.linspace(*(kernel.coordinate(np.array([-1.0, 10.0])) + np.array([-3.0, 3.0])), 4001)
    curve = smoothed(found(), kernel.values(places), kernel)
    assert integrate.trapezoid(curve.value, places) == pytest.approx(1.0, rel=1e-3)


def test_the_log_axis_is_in_decades_far_from_zero_and_linear_near_it() -> None:
    values = np.array([-10.0, -1.0, 0.0, 1.0, 10.0])
    places = LOG.coordinate(values)
    np.testing.assert_allclose(places[4] - places[3], 1.0, atol=1e-6)
    np.testing.assert_allclose(places, -places[::-1])
    np.testing.assert_allclose(LOG.values(places), values, atol=1e-12)
    np.testing.assert_allclose(LOG.coordinate(np.array([1e-6])) * math.log(10), 1e-6 / 2e-4, rtol=1e-4)


def test_a_single_probe_has_no_upper_bound() -> None:
    curve = smoothed(found(num_probes=1), np.array([0.0, 0.5]), LINEAR)
    assert np.isposinf(curve.high).all()
    assert np.isfinite(curve.value).all()


@pytest.mark.parametrize("wrong", [{"width": 0.0}, {"width": 1.0, "floor": 0.0}])
def test_impossible_kernels_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="above 0"):
        Kernel(**wrong)
