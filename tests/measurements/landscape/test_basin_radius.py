"""Radii as a measurement: bowls in closed form, awkward networks, and words for what cannot be measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.bowls import bowl, norm
from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.types import NotApplicable, Result
from vallis.measurements.landscape.basin_radius import BasinRadius
from vallis.numerics.surface import in_eval_mode

RADIUS = BasinRadius(level="rise", num_rays=5, num_scans=1, num_drawn=2)


def codes(found: Result) -> set[str]:
    return {note.code for note in found.notes}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_networks_have_radii(name: str) -> None:
    solution = AWKWARD[name]()
    found = measured(RADIUS, solution)
    centre = Objective(in_eval_mode(solution)).value()
    assert found.estimate("centre_loss").value == centre
    assert found.estimate("cutoff_loss").value == pytest.approx(centre + 0.1)
    radii = found.array("radii").data
    assert ((radii > 0) & (radii <= 1)).all()


def test_a_round_bowl_has_one_radius() -> None:
    """``sqrt(2 cutoff / k)`` in every direction (card 1, A5), in units of the norm of the only filter."""
    solution = bowl([4.0] * 12)
    part = BasinRadius(num_rays=20, cap=10.0)
    found = measured(part, solution)
    exact = np.sqrt(0.2 / 4.0) / norm(Objective(solution))
    for name in ("mean", "median", "max"):
        assert found.estimate(f"{name}_radius").value == pytest.approx(exact, rel=1e-6)
    assert found.estimate("mean_radius").stderr == pytest.approx(0.0, abs=1e-6)
    assert found.estimate("num_coordinates").value == 12
    losses = found.array("losses")
    np.testing.assert_allclose(
        losses.data, 2 * (losses.coords["step"] * norm(Objective(solution))) ** 2 * np.ones((16, 1))
    )
    assert "0.1 nats" not in part.reading(found)  # a squared error is in no nats
    assert {"radii", "loss_along_rays"} == {figure.name for figure in part.figures(found)}


def test_a_centre_above_the_cutoff_is_said_to_be() -> None:
    found = measured(BasinRadius(num_rays=4), mlp())
    assert "above_cutoff" in codes(found)
    assert found.array("radii").data.tolist() == [0.0] * 4
    assert found.estimate("num_losses").value == 0
    assert BasinRadius().figures(found) == ()
    assert "no basin" in BasinRadius().reading(found)


def test_caps_and_near_cutoffs_are_said() -> None:
    found = measured(replace(RADIUS, cutoff=1e6), mlp())
    assert "capped" in codes(found) and found.estimate("capped_fraction").value == 1.0
    assert "up to the cap" in RADIUS.reading(found)
    centre = Objective(mlp()).value()
    assert "near_cutoff" in codes(measured(replace(RADIUS, level="absolute", cutoff=1.2 * centre), mlp()))


def test_filters_are_another_distribution_of_directions() -> None:
    one, other = (measured(replace(RADIUS, rays=rays), mlp()) for rays in ("sphere", "filters"))
    assert not np.allclose(one.array("radii").data, other.array("radii").data, rtol=0.02)
    assert one.estimate("num_coordinates") == other.estimate("num_coordinates")


def test_a_network_without_filters_or_with_a_diverged_loss_has_none() -> None:
    module = built(lambda: nn.Sequential(nn.LayerNorm(3)))
    found = RADIUS.measure(held(module, random(4, 3), classes(4)), RNG)
    assert isinstance(found, NotApplicable) and found.note.code == "no_direction"
    solution = mlp()
    solution.params["0.weight"][0] = torch.nan
    diverged = RADIUS.measure(solution, RNG)
    assert isinstance(diverged, NotApplicable) and diverged.note.code == "not_finite"


def test_a_part_of_the_data_is_said_to_be_one() -> None:
    found = measured(replace(RADIUS, max_examples=8), mlp())
    assert "part_of_the_data" in codes(found)
    centre = found.estimate("centre_loss")
    assert centre.n == 8 and centre.stderr is None and "a part" in centre.method


@pytest.mark.parametrize(
    "wrong", [{"num_rays": 0}, {"num_scans": -1}, {"cutoff": 0.0}, {"cap": -1.0}, {"tolerance": 0.0}, {"num_drawn": -1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        BasinRadius(**wrong)  # type: ignore[arg-type]
