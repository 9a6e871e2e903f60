"""Volumes as a measurement: the exact ellipsoid of a bowl, plain rays that are honestly lost, both ways to count n."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.bowls import bowl, log_volume_of_bowl, norm, spread_out
from tests.numerics.solutions import AWKWARD, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.types import NotApplicable
from vallis.measurements.landscape.basin_volume import BasinVolume
from vallis.numerics.log_volume import log_ball_volume

QUICK = BasinVolume(level="rise", num_rays=8, num_pilots=3, num_rounds=1, num_drawn=2)
BOWL = BasinVolume(num_rays=100, cutoff=0.01, cap=1e3, num_drawn=1)


@pytest.mark.parametrize(
    "name", ["mlp", "batch_norm_training", "transformer", "tokens", "binary", "lstm", "one_example"]
)
def test_awkward_networks_have_a_volume(name: str) -> None:
    found = measured(QUICK, AWKWARD[name]())
    n, value = found.estimate("num_dimensions").value, found.estimate("log_volume").value
    terms = found.array("ray_log_volumes").data
    assert value == pytest.approx(np.log(np.mean(np.exp(terms - terms.max()))) + terms.max())
    typical = found.estimate("typical_log_volume").value
    assert typical == pytest.approx(terms.mean()) and typical <= value
    assert found.estimate("log10_ball_share").value == pytest.approx((value - log_ball_volume(int(n))) / np.log(10))
    assert found.estimate("log_volume_low").value <= found.estimate("log_volume_high").value


@pytest.mark.parametrize("size", [3, 30])
def test_a_bowl_of_condition_a_thousand(size: int) -> None:
    eigenvalues = spread_out(size, 1e3)
    solution = bowl(eigenvalues)
    exact = log_volume_of_bowl(eigenvalues, norm(Objective(solution)), 0.01)
    found = measured(BOWL, solution)
    value = found.estimate("log_volume")
    assert value.stderr is not None and value.stderr < 0.1
    assert abs(value.value - exact) <= 3 * value.stderr + 1e-3
    assert found.estimate("typical_log_volume").value < exact + 1e-3
    assert not [note for note in found.notes if note.code == "few_effective_rays"]
    assert "rays share it" in BOWL.reading(found)


def test_a_basin_that_fills_the_cap_is_said_to() -> None:
    """A flat bowl: the volume is that of the ball."""
    found = measured(replace(BOWL, cap=0.5), bowl([1e-6] * 4))
    assert found.estimate("log_volume").value == pytest.approx(log_ball_volume(4, float(np.log(0.5))))
    assert "bound_by_the_cap" in {note.code for note in found.notes}
    steep = measured(BOWL, bowl([1.0] * 4))
    assert "bound_by_the_cap" not in {note.code for note in steep.notes}


def test_plain_rays_in_many_dimensions_say_that_they_are_lost() -> None:
    eigenvalues = spread_out(100, 1e4)
    solution = bowl(eigenvalues)
    exact = log_volume_of_bowl(eigenvalues, norm(Objective(solution)), 0.01)
    plain = replace(BOWL, proposal="none")
    found = measured(plain, solution)
    assert found.estimate("log_volume").stderr is None
    assert found.estimate("log_volume").value < exact - 5
    assert found.estimate("typical_log_volume").stderr is not None
    assert {"few_effective_rays", "first_crossings"} <= {note.code for note in found.notes}
    assert "without an error bar" in plain.reading(found)
    names = {figure.name for figure in plain.figures(found)}
    assert names == {"log_volume_by_ray", "log_volume_by_number_of_rays", "radii", "loss_along_rays"}


def test_dimensions_are_those_that_move_or_all_parameters() -> None:
    plain = replace(QUICK, proposal="none")
    moved, everything = (measured(replace(plain, dimensions=which), mlp()) for which in ("moved", "all"))
    assert (moved.estimate("num_dimensions").value, everything.estimate("num_dimensions").value) == (48, 61)
    np.testing.assert_array_equal(moved.array("radii").data, everything.array("radii").data)
    log_radii = np.log(moved.array("radii").data)
    np.testing.assert_allclose(everything.array("ray_log_volumes").data, log_ball_volume(61) + 61 * log_radii)


def test_plain_rays_are_those_of_the_radius_and_pair_networks() -> None:
    plain = replace(QUICK, proposal="none", rays="filters")
    one, other = (measured(plain, AWKWARD[name]()) for name in ("mlp", "mlp"))
    np.testing.assert_array_equal(one.array("radii").data, other.array("radii").data)


def test_a_centre_above_the_cutoff_has_no_volume() -> None:
    found = BasinVolume(num_rays=2).measure(mlp(), RNG)
    assert isinstance(found, NotApplicable) and found.note.code == "above_cutoff"
    assert "rise" in found.note.text


def test_a_loss_without_curvature_falls_back_to_plain_rays_and_says_so() -> None:
    module = nn.Linear(3, 2).double()
    loss = OwnLoss(function=lambda outputs, y: outputs.abs().sqrt().mean() - outputs.square().mean())
    found = measured(QUICK, held(module, random(6, 3).double(), random(6).double(), loss=loss))
    assert "no_curvature" in {note.code for note in found.notes}
    assert found.estimate("typical_log_volume").stderr is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_rays": 0},
        {"num_pilots": 0},
        {"cutoff": -1.0},
        {"rays": "filters"},
        {"dimensions": "all"},
        {"proposal": "diagonal", "rays": "filters"},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        BasinVolume(**wrong)  # type: ignore[arg-type]
