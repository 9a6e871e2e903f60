"""Ellipsoids that are like basins: volumes without bias on bodies that are known, less spread on others."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.bowls import bowl, log_volume_of_bowl, norm, spread_out
from tests.numerics.solutions import held, mlp, random
from tests.numerics.test_log_volume import lp_ball
from vallis.core.losses import CrossEntropy
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics import basin_ellipsoid as basin_ellipsoid_module
from vallis.numerics.basin_ellipsoid import BasinEllipsoid, basin_ellipsoid
from vallis.numerics.basin_radii import basin_radii
from vallis.numerics.ellipsoids import Block, LayerEllipsoid
from vallis.numerics.log_volume import LogVolume, log_ball_volume, log_volume
from vallis.numerics.rays import Frame, Rays
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.testing.toys.solutions import trained

RNG = Rng(0)


def volume(objective: Objective, ellipsoid: LayerEllipsoid | None, num_rays: int, **options: object) -> LogVolume:
    frame = Frame(objective.origin)
    found = basin_radii(objective, Rays(frame, RNG.child("rays"), ellipsoid=ellipsoid), num_rays, **options)  # type: ignore[arg-type]
    return log_volume(found.log_radii, frame.num_coordinates, rng=RNG, log_weights=found.log_weights)


def fitted(objective: Objective, **options: object) -> BasinEllipsoid:
    return basin_ellipsoid(objective, Frame(objective.origin), rng=RNG.child("fit"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2, 5, 20, 60, 200])
def test_a_bowl_of_condition_ten_thousand(size: int) -> None:
    """The fitted ellipsoid is the bowl up to its damping: exact for n to 200, where plain rays are thousands off."""
    eigenvalues = spread_out(size, 1e4)
    objective = Objective(bowl(eigenvalues))
    options = {"cutoff": 0.01, "cap": 1e4}
    exact = log_volume_of_bowl(eigenvalues, norm(objective), 0.01)
    chosen = fitted(objective, **options)
    assert chosen.ellipsoid is not None and chosen.num_evaluations < 600
    found = volume(objective, chosen.ellipsoid, 100, **options)
    assert found.is_resolved and found.stderr is not None and found.stderr < 0.1
    assert abs(found.value - exact) <= 3 * found.stderr + 1e-3
    plain = volume(objective, None, 100, **options)
    assert plain.spread > (5 if size > 2 else 2) * found.spread  # type: ignore[operator]
    if size >= 20:  # too large for its rays, and it says so
        assert not plain.is_resolved and plain.stderr is None
        assert plain.value < exact - 3


def test_the_lower_bound_is_one_and_chooses_well() -> None:
    eigenvalues = spread_out(60, 1e4)
    objective = Objective(bowl(eigenvalues))
    chosen = fitted(objective, cutoff=0.01, cap=1e4)
    exact = log_volume_of_bowl(eigenvalues, norm(objective), 0.01) - log_ball_volume(60)
    assert exact - 1 < chosen.lower_bound < exact + 0.1


@pytest.mark.parametrize("size", [2, 10, 20])
@pytest.mark.parametrize("stretch", [0.0, 2.0])
def test_a_star_body_that_is_no_ellipsoid_has_no_bias(size: int, stretch: float) -> None:
    """The l1 ball, its axes from e^-stretch to e^stretch: rays of an ellipsoid with those axes, weighted exactly."""
    axes = torch.linspace(-stretch, stretch, size, dtype=torch.float64)
    block = Block(alive=torch.arange(1), curvatures=(-2 * axes).exp()[None])
    frame = Frame([torch.full((1, size), 1 / math.sqrt(size), dtype=torch.float64)])
    exact = lp_ball(size, 1.0) + float(axes.sum())
    drawn = Rays(frame, RNG, ellipsoid=LayerEllipsoid([block], 0.0)).draw(0, 4000)
    units = drawn.directions[0][:, 0]  # type: ignore[index]
    log_radii = -((units.abs() * (-axes).exp()).sum(1).log()).numpy()
    found = log_volume(log_radii, size, rng=RNG, log_weights=drawn.log_weights)
    assert found.stderr is not None
    assert abs(found.value - exact) <= 3 * found.stderr
    assert found.stderr < 0.15


def quartic(size: int, condition: float) -> Solution:
    """``L = sum_i k_i u_i^4``: an l4 ball with axes ``k_i^(-1/4)``, whose curvature at the centre is zero.

    A filter a coordinate, each as long as one over the square root of their number: a step is a distance.
    """
    scales = torch.tensor(spread_out(size, condition), dtype=torch.float64)
    module = nn.Linear(1, size, bias=False).double()
    nn.init.constant_(module.weight, 1 / math.sqrt(size))
    x, y = torch.ones(4, 1, dtype=torch.float64), torch.full((4, size), 1 / math.sqrt(size), dtype=torch.float64)
    loss = OwnLoss(function=lambda outputs, y: (scales * (outputs - y) ** 4).sum(1).mean())
    return held(module, x, y, loss=loss)


def test_a_basin_whose_centre_has_no_curvature_is_fitted_at_its_edge() -> None:
    size, condition, cutoff = 10, 1e4, 0.1
    objective = Objective(quartic(size, condition))
    options = {"cutoff": cutoff, "cap": 1e4}
    log_axes = 0.25 * (math.log(cutoff) - np.log(spread_out(size, condition)))
    exact = lp_ball(size, 4.0) + float(log_axes.sum())
    chosen = fitted(objective, num_pilots=32, **options)
    assert chosen.ellipsoid is not None, chosen.trouble
    found, plain = (volume(objective, each, 600, **options) for each in (chosen.ellipsoid, None))
    assert found.is_resolved and found.stderr is not None
    assert abs(found.value - exact) <= 3 * found.stderr
    assert found.spread < 0.5 * plain.spread  # type: ignore[operator]


def test_of_a_trained_network_it_lowers_the_spread_and_finds_more() -> None:
    objective = Objective(trained(Blobs(num_classes=3, distance=6.0, double=True), TinyMlp(double=True), RNG, 1500))
    assert objective.value() < 0.02
    chosen = fitted(objective, cutoff=0.02, level="rise")
    found, plain = (volume(objective, each, 60, cutoff=0.02, level="rise") for each in (chosen.ellipsoid, None))
    assert chosen.ellipsoid is not None
    assert found.spread < plain.spread  # type: ignore[operator]
    assert found.typical > plain.typical


def test_ellipsoids_are_not_tried_on_the_rays_that_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those would flatter them: they are narrow just there."""
    streams: list[tuple[str, ...]] = []

    class Recorded(Rays):
        def __init__(self, frame: Frame, rng: Rng, *others: object) -> None:
            streams.append(rng.path)
            super().__init__(frame, rng, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(basin_ellipsoid_module, "Rays", Recorded)
    found = fitted(Objective(bowl(spread_out(20, 1e4))), cutoff=0.01, cap=1e4)
    assert found.num_curvatures == 16
    trials, *edges = dict.fromkeys(streams)
    assert len(edges) == 2 and streams.count(trials) > 4
    assert all(streams.count(edge) == 1 for edge in edges)


def test_a_loss_that_bends_down_has_no_ellipsoid_and_says_why() -> None:
    module = nn.Linear(3, 2).double()
    loss = OwnLoss(function=lambda outputs, y: outputs.abs().sqrt().mean() - outputs.square().mean())
    objective = Objective(held(module, random(6, 3).double(), torch.zeros(6).double(), loss=loss))
    found = fitted(objective, level="rise")
    assert found.ellipsoid is None and "convex" in found.trouble


def test_a_centre_above_the_cutoff_is_not_tried() -> None:
    objective = Objective(mlp())
    assert isinstance(objective.loss, CrossEntropy)
    found = fitted(objective, cutoff=0.01)
    assert found.ellipsoid is None and found.num_evaluations == 0


def test_same_stream_same_ellipsoid() -> None:
    objective = Objective(mlp(double=True))
    one, other = (fitted(objective, level="rise") for _ in range(2))
    assert one.ellipsoid is not None and other.ellipsoid is not None
    assert one.lower_bound == other.lower_bound
    assert one.ellipsoid.log_determinant == other.ellipsoid.log_determinant
