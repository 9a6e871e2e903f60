"""Rays: of the length of their filters, uniform where they say so, and of exact weight where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import built
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.numerics.ellipsoids import Block, LayerEllipsoid
from vallis.numerics.rays import Frame, Parts, Rays

RNG = Rng(0).child("rays")


def point(seed: int = 0, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    module = built(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4), nn.LayerNorm(4)),
        seed,
    )
    return [value.detach().to(dtype) for value in module.parameters()]


def moving(parts: Parts) -> list[torch.Tensor]:
    return [part for part in parts if part is not None]


def relative(directions: Parts, values: list[torch.Tensor]) -> torch.Tensor:
    """``(K, n)`` directions in norms of the filters."""
    rows = []
    for part, value in zip(directions, values, strict=True):
        if part is not None:
            norms = value.double().flatten(1).norm(dim=1)
            rows.append((part.double().flatten(2) / norms[None, :, None]).flatten(1))
    return torch.cat(rows, 1)


def test_coordinates_are_the_weights_of_filters() -> None:
    values = point()
    frame = Frame(values)
    assert [scale is None for scale in frame.scales] == [value.ndim < 2 for value in values]
    assert (frame.num_filters, frame.num_coordinates) == (3 + 4, 54 + 48)
    values[0][1] = 0  # a dead filter is no coordinate
    frame = Frame(values)
    assert (frame.num_filters, frame.num_coordinates) == (2 + 4, 36 + 48)
    directions = Rays(frame, RNG).draw(0, 2).directions
    assert directions[1] is None and not moving(directions)[0][:, 1].any()
    assert bool(moving(directions)[0].isfinite().all())
    assert Frame([torch.zeros(2, 2), torch.ones(3)]).num_coordinates == 0


def test_after_a_step_of_one_filters_have_moved_by_their_norms() -> None:
    values = point(dtype=torch.float64)
    frame = Frame(values)
    each = Rays(frame, RNG, "filters").draw(0, 5).directions
    for part, value in zip(moving(each), (values[0], values[4]), strict=True):
        norms = value.flatten(1).norm(dim=1)
        torch.testing.assert_close(part.flatten(2).norm(dim=2), norms.expand(5, -1))
    on_sphere = relative(Rays(frame, RNG).draw(0, 5).directions, values)
    torch.testing.assert_close(on_sphere.norm(dim=1), torch.full((5,), np.sqrt(7.0), dtype=torch.float64))


def test_directions_on_the_sphere_are_uniform_and_those_of_filters_are_not() -> None:
    """The share of a filter of 12 in 102 coordinates: Beta(6, 45) on the sphere, one seventh always otherwise."""
    values = point()
    frame = Frame(values)
    shares = {}
    for shape in ("sphere", "filters"):
        found = relative(Rays(frame, RNG, shape).draw(0, 600).directions, values)  # type: ignore[arg-type]
        shares[shape] = (found[:, -12:].square().sum(1) / 7).numpy()
    mean, variance = 12 / 102, 6 * 45 / (51**2 * 52)
    assert shares["sphere"].mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / 600))
    assert shares["sphere"].var() == pytest.approx(variance, rel=0.3)
    np.testing.assert_allclose(shares["filters"], 1 / 7, rtol=1e-5)


def test_a_ray_depends_on_its_number_alone() -> None:
    frame = Frame(point())
    rays = Rays(frame, RNG)
    together = rays.draw(0, 5)
    for alone, part in zip(moving(rays.draw(3, 1).directions), moving(together.directions), strict=True):
        assert torch.equal(alone[0], part[3])
    other = Rays(frame, RNG.child("other")).draw(3, 1)
    assert not torch.equal(moving(other.directions)[0], moving(rays.draw(3, 1).directions)[0])


def test_networks_of_one_shape_see_the_same_noise_whatever_they_are_made_of() -> None:
    one, other = point(0), point(1, torch.float64)
    other[0][1] = 0
    for shape in ("sphere", "filters"):
        found = [Rays(Frame(values), RNG, shape).draw(0, 3).directions for values in (one, other)]  # type: ignore[arg-type]
        (a, *_), (b, *_) = (moving(directions) for directions in found)
        assert (a.dtype, b.dtype) == (torch.float32, torch.float64)
        units = [part[:, 0].double().flatten(1) for part in (a, b)]
        torch.testing.assert_close(torch.cosine_similarity(*units), torch.ones(3, dtype=torch.float64))


def test_an_ellipsoid_s_weights_are_exact() -> None:
    """By the density of ``A g / |A g|``: ``1 / (|A| |A^-1 d|^n)`` for unit vectors d, against a dense A."""
    values = [torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)]
    generator = torch.Generator().manual_seed(1)
    u = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    curvatures = torch.rand(3, 4, generator=generator, dtype=torch.float64) * 10
    ellipsoid = LayerEllipsoid([Block(alive=torch.arange(3), curvatures=curvatures, outputs=u, inputs=v)], damping=0.1)
    drawn = Rays(Frame(values), RNG, ellipsoid=ellipsoid).draw(0, 6)
    half_axes = (curvatures + 0.1 * curvatures.mean()).rsqrt().reshape(-1)
    dense = torch.kron(u, v) @ torch.diag(half_axes) @ torch.kron(u, v).T
    units = relative(drawn.directions, values) / np.sqrt(3)
    torch.testing.assert_close(units.norm(dim=1), torch.ones(6, dtype=torch.float64))
    expected = torch.logdet(dense @ dense.T) / 2 + 12 * torch.linalg.solve(dense, units.T).norm(dim=0).log()
    np.testing.assert_allclose(drawn.log_weights, expected.numpy(), rtol=1e-9, atol=1e-9)


def test_weights_have_the_mean_one() -> None:
    """They are the ratio of two densities, the uniform one over that of the rays."""
    values = [torch.ones(1, 5, dtype=torch.float64)]
    curvatures = torch.tensor([[1.0, 2.0, 3.0, 4.0, 8.0]], dtype=torch.float64)
    ellipsoid = LayerEllipsoid([Block(alive=torch.arange(1), curvatures=curvatures)], damping=0.0)
    drawn = Rays(Frame(values), RNG, ellipsoid=ellipsoid).draw(0, 4000)
    weights = np.exp(drawn.log_weights)
    assert weights.mean() == pytest.approx(1.0, abs=4 * weights.std() / np.sqrt(4000))
    assert weights.std() > 0.3


def test_impossible_rays_are_refused() -> None:
    frame = Frame(point())
    with pytest.raises(SettingsError, match="sphere"):
        Rays(frame, RNG, "cube")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="ellipsoid"):
        Rays(frame, RNG, "filters", LayerEllipsoid([None], 1.0))


def test_nothing_global_is_touched() -> None:
    before = torch.random.get_rng_state()
    Rays(Frame(point()), RNG).draw(0, 2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_weight_of_zeros_takes_its_noise_all_the_same() -> None:
    """As a filter of zeros does: else all weights behind it would be moved along other directions."""
    values, without = point(), point()
    without[0] = torch.zeros_like(without[0])
    whole, part = (Frame(each).noise(RNG) for each in (values, without))
    assert part[0] is None
    torch.testing.assert_close(part[4], whole[4])
