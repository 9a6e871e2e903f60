"""Radii of bowls in closed form, of awkward networks by a plain scan, and the same whatever they are computed with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.bowls import bowl, rayleigh, spread_out
from tests.numerics.solutions import AWKWARD, built, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.rng import Rng
from vallis.numerics import basin_radii as module
from vallis.numerics.basin_radii import basin_radii, cutoff_of
from vallis.numerics.rays import Frame, Parts, Rays
from vallis.numerics.surface import in_eval_mode
from vallis.testing.toys.problems import regression_hessian

RNG = Rng(0).child("rays")


def rays(objective: Objective) -> Rays:
    return Rays(Frame(objective.origin), RNG)


def first(parts: Parts) -> torch.Tensor:
    return next(part for part in parts if part is not None)


def test_radii_of_a_bowl_are_those_of_its_ellipsoid() -> None:
    solution = bowl(spread_out(20, 1e4))
    objective, hessian = Objective(solution), regression_hessian(solution.task)
    found = basin_radii(objective, rays(objective), 50, cutoff=0.01, cap=1e3)
    along = first(rays(objective).draw(0, 50).directions)
    exact = [np.sqrt(2 * 0.01 / rayleigh(objective, one, hessian)) for one in along]
    np.testing.assert_allclose(found.radii, exact, rtol=1e-6)  # a straight line between logarithms: no error left
    assert found.centre == pytest.approx(0.0, abs=1e-20)
    assert found.num_evaluations < 50 * 5
    assert not found.is_capped.any() and found.is_inside


@pytest.mark.parametrize("name", AWKWARD)
def test_radii_of_awkward_networks_are_what_a_fine_scan_finds(name: str) -> None:
    objective = Objective(in_eval_mode(AWKWARD[name]()))
    along = rays(objective)
    found = basin_radii(objective, along, 2, cutoff=0.05, level="rise", num_scans=3)
    steps = np.linspace(0, 1, 101)[1:]
    for place, part in enumerate(found.radii):
        drawn = along.draw(place, 1).directions
        points = (
            [v if d is None else v + float(step) * d[0] for v, d in zip(objective.origin, drawn, strict=True)]
            for step in steps
        )
        above = next((step for step, point in zip(steps, points, strict=True)
                      if not objective.value(point) < found.cutoff), np.inf)  # fmt: skip
        if np.isinf(above):
            assert found.is_capped[place] and part == 1.0
        else:
            assert above - 1 / 100 - 0.01 * above <= part <= above * 1.01


def test_a_linear_loss() -> None:
    module_ = nn.Linear(3, 2, bias=False).double()
    nn.init.ones_(module_.weight)
    loss = OwnLoss(function=lambda outputs, y: (outputs * y).mean())
    objective = Objective(held(module_, torch.ones(6, 3).double(), torch.ones(6, 2).double(), loss=loss))
    found = basin_radii(objective, rays(objective), 20, cutoff=0.1, level="rise", cap=50.0)
    slopes = first(rays(objective).draw(0, 20).directions).sum((1, 2)).numpy() / 2
    rising = slopes > 0.1 / 50
    np.testing.assert_allclose(found.radii[rising], 0.1 / slopes[rising], rtol=0.01)
    assert found.is_capped[~rising].all() and found.radii[~rising].max() <= 50


def test_a_centre_above_the_cutoff_has_radii_of_zero() -> None:
    objective = Objective(mlp())
    found = basin_radii(objective, rays(objective), 4, cutoff=0.1)
    assert not found.is_inside
    assert found.radii.tolist() == [0.0] * 4 and np.isneginf(found.log_radii).all()
    assert found.num_evaluations == 0


def test_an_overflowing_loss_ends_the_basin() -> None:
    module_ = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module_.weight)
    loss = OwnLoss(function=lambda outputs, y: torch.exp(200 * (outputs - 1).abs()).mean() - 1)
    objective = Objective(held(module_, torch.ones(4, 1), torch.zeros(4, 1), loss=loss))
    found = basin_radii(objective, rays(objective), 3, start=1.0)
    np.testing.assert_allclose(found.radii, np.log(1.1) / 200, rtol=0.01)


def test_batches_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Objective(mlp(batch_size=size, double=True)) for size in (17, 5))
    expected = basin_radii(one, rays(one), 20, level="rise")
    np.testing.assert_allclose(basin_radii(other, rays(other), 20, level="rise").radii, expected.radii, rtol=1e-9)
    monkeypatch.setattr(module, "_MOST_BYTES", 3 * rays(one).frame.num_bytes)
    in_threes = basin_radii(one, rays(one), 20, level="rise")
    np.testing.assert_allclose(in_threes.radii, expected.radii, rtol=1e-9)
    assert len(in_threes.radii) == 20
    tail = basin_radii(one, rays(one), 5, level="rise", first=15)
    np.testing.assert_allclose(tail.radii, expected.radii[15:], rtol=0.01)


def test_how_much_memory_there_is_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part began where the one before had ended, and memory says how large parts are."""
    objective = Objective(in_eval_mode(mlp()))
    along = rays(objective)
    whole = basin_radii(objective, along, 40, cutoff=0.05, level="rise")
    monkeypatch.setattr(module, "spare_bytes", lambda device: 8 * 5 * along.frame.num_bytes)
    parts = basin_radii(objective, along, 40, cutoff=0.05, level="rise")
    np.testing.assert_array_equal(parts.crossings.num_evaluations, whole.crossings.num_evaluations)
    np.testing.assert_allclose(parts.radii, whole.radii, rtol=1e-6)


def test_a_rise_below_the_rounding_of_the_loss_is_told() -> None:
    """In float32 radii were twice those in float64, or 450 times, and nothing said so."""
    module_ = built(lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)))
    far = held(module_, random(20, 3), 1e4 * random(20, 1, seed=4) + 3e4, loss=SquaredError())
    in_float32, in_float64 = Objective(far), Objective(far, dtype=torch.float64)
    found = basin_radii(in_float32, rays(in_float32), 20, cutoff=0.1, level="rise")
    exact = basin_radii(in_float64, rays(in_float64), 20, cutoff=0.1, level="rise")
    assert np.abs(found.radii / exact.radii - 1).max() > 0.5
    assert found.is_rounded and not exact.is_rounded
    assert not basin_radii(in_float32, rays(in_float32), 2, cutoff=0.1 * found.centre, level="rise").is_rounded


def test_same_bits_again_and_other_rays_from_another_stream() -> None:
    objective = Objective(mlp())
    found = [basin_radii(objective, rays(objective), 9, level="rise").radii for _ in range(2)]
    np.testing.assert_array_equal(*found)
    other = basin_radii(objective, Rays(Frame(objective.origin), RNG.child("other")), 9, level="rise")
    assert not np.allclose(other.radii, found[0], rtol=0.01)


def test_radii_do_not_see_layers_rescaled() -> None:
    module_ = built(lambda: nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3))).double()
    solution = held(module_, random(17, 2).double(), torch.arange(17) % 3)
    scaled = dict(solution.params)
    scaled["0.weight"], scaled["0.bias"] = 5 * scaled["0.weight"], 5 * scaled["0.bias"]
    scaled["2.weight"] = scaled["2.weight"] / 5
    objectives = [Objective(solution), Objective(replace(solution, params=scaled))]
    one, other = (basin_radii(each, rays(each), 10, level="rise").radii for each in objectives)
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_levels() -> None:
    assert cutoff_of(0.02, 0.1, "absolute") == 0.1
    assert cutoff_of(0.02, 0.1, "rise") == pytest.approx(0.12)
    with pytest.raises(SettingsError, match="rise"):
        cutoff_of(0.02, 0.1, "relative")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"num_rays": 0}, {"cutoff": 0.0}, {"cap": -1.0}, {"tolerance": 0.0}, {"cap": np.inf}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    objective = Objective(mlp())
    with pytest.raises(SettingsError):
        basin_radii(objective, rays(objective), **{"num_rays": 1, **wrong})  # type: ignore[arg-type]
