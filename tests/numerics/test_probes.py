"""Random vectors, and intervals for means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from vallis.core.rng import Rng
from vallis.numerics.operators import Dense
from vallis.numerics.probes import (
    agree,
    band,
    chance_of_agreement,
    signs,
    skewness_notes,
    sphere,
    standard_error,
    t_quantile,
    without,
)

RNG = Rng(0).child("probes")
SINGLE, DOUBLE = (Dense(torch.eye(500, dtype=dtype)) for dtype in (torch.float32, torch.float64))


def test_signs_are_signs_and_the_same_for_every_dtype() -> None:
    drawn = signs(DOUBLE, RNG)
    assert set(drawn.tolist()) == {-1.0, 1.0}
    assert abs(float(drawn.mean())) < 4 / 500**0.5
    assert torch.equal(drawn, signs(SINGLE, RNG))
    assert not torch.equal(drawn, signs(DOUBLE, RNG.child("other")))


def test_directions_have_length_one_and_no_preference() -> None:
    drawn = torch.stack([sphere(SINGLE, RNG.child(place)) for place in range(200)])
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(200, dtype=torch.float64))
    # The mean of 200 such vectors has the length 1 / sqrt(200), give or take a few percent.
    assert float(drawn.mean(0).norm()) == pytest.approx(200**-0.5, rel=0.2)


def test_what_is_outside_of_a_span() -> None:
    known = torch.linalg.qr(torch.randn(500, 3, generator=RNG.torch(), dtype=torch.float64)).Q
    vector = sphere(DOUBLE, RNG)
    left = without(vector, known)
    torch.testing.assert_close(known.T @ left, torch.zeros(3, dtype=torch.float64), atol=1e-14, rtol=0)
    torch.testing.assert_close(left + known @ (known.T @ vector), vector)
    assert torch.equal(without(vector, None), vector)


def test_intervals_are_students() -> None:
    samples = np.random.default_rng(0).normal(size=(7, 4))
    low, high = band(samples, samples, 0.9)
    expected = stats.t.interval(0.9, 6, loc=samples.mean(0), scale=stats.sem(samples))
    np.testing.assert_allclose((low, high), expected)
    np.testing.assert_allclose(standard_error(samples), stats.sem(samples))
    assert t_quantile(0.975, 9) == pytest.approx(stats.t.ppf(0.975, 9))


def test_bounds_widen_the_interval_on_their_own_side() -> None:
    samples = np.random.default_rng(0).normal(size=(7, 4))
    low, high = band(samples, samples, 0.9)
    below, above = band(samples - 1.0, samples + 2.0, 0.9)
    np.testing.assert_allclose((below, above), (low - 1.0, high + 2.0))


def test_a_single_sample_says_nothing_of_its_error() -> None:
    low, high = band(np.ones((1, 3)), np.ones((1, 3)), 0.95)
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()
    assert np.isposinf(standard_error(np.ones((1, 3)))).all()


def test_samples_agree_up_to_rounding() -> None:
    same = np.array([3.0, 3.0 * (1 + 1e-15), 3.0])
    assert agree(same, torch.float64)
    assert not agree(same * [1, 1 + 1e-12, 1], torch.float64)
    assert agree(same * [1, 1 + 1e-7, 1], torch.float32)
    assert agree(np.zeros(4), torch.float64)
    assert (chance_of_agreement(1), chance_of_agreement(3)) == (1.0, 0.75**2)


def test_skewness_is_noted_where_it_is_there() -> None:
    random = np.random.default_rng(0)
    chi = [len(skewness_notes(random.chisquare(1, size=32))) for _ in range(100)]
    normal = [len(skewness_notes(random.normal(size=32))) for _ in range(400)]
    assert sum(chi) > 85
    assert sum(normal) < 20
    assert skewness_notes(random.chisquare(1, size=7)) == ()
    assert skewness_notes(np.full(20, 0.1)) == ()
