"""Slices: paired directions, the true centre, the radius of a bowl that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.types import NotApplicable, Solution
from vallis.measurements.landscape import loss_slice
from vallis.measurements.landscape.basin_radius import BasinRadius
from vallis.measurements.landscape.basin_volume import BasinVolume
from vallis.measurements.landscape.loss_slice import LossSlice, rise_radius
from vallis.numerics.refinement import refined_plane
from vallis.numerics.surface import in_eval_mode

SLICE = LossSlice(num_points=9, num_points_plane=5)


@pytest.mark.parametrize("name", AWKWARD)
def test_the_centre_is_the_network_itself(name: str) -> None:
    solution = AWKWARD[name]()
    found = measured(SLICE, solution)
    loss = Objective(in_eval_mode(solution)).value()
    assert found.estimate("centre_loss").value == loss
    assert found.array("losses_plane").data[2, 2] == loss
    assert found.array("losses_second").data[4] == loss
    assert found.array("losses_first").coords["step"][4] == 0.0


def test_the_lines_are_the_axes_of_the_plane() -> None:
    found = measured(SLICE, mlp())
    plane = found.array("losses_plane")
    assert plane.dims == ("second_step", "first_step")
    np.testing.assert_array_equal(plane.data[2], found.array("losses_first").data[::2])
    np.testing.assert_array_equal(plane.data[:, 2], found.array("losses_second").data[::2])
    np.testing.assert_array_equal(plane.coords["first_step"], [-1, -0.5, 0, 0.5, 1])


def test_directions_are_the_same_for_all_networks_and_other_seeds_give_others() -> None:
    """Two networks whose weights differ by a factor per layer: filter-normalised slices of them are the same."""
    solution = relu()
    scaled = dict(solution.params)
    scaled["0.weight"], scaled["0.bias"] = 5 * scaled["0.weight"], 5 * scaled["0.bias"]
    scaled["2.weight"] = scaled["2.weight"] / 5
    one, other = measured(SLICE, solution), measured(SLICE, replace(solution, params=scaled))
    np.testing.assert_allclose(one.array("losses_plane").data, other.array("losses_plane").data, rtol=1e-4)
    third = measured(replace(SLICE, seed=1), solution)
    assert not np.allclose(one.array("losses_first").data, third.array("losses_first").data, rtol=1e-2)


def relu() -> Solution:
    return held(built(lambda: nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3))), random(17, 2), classes(17))


def bowl() -> Solution:
    """``L = |w - 1|^2 / 2`` with one filter of length sqrt(2): along any direction it is ``a^2``."""
    module = nn.Linear(2, 1, bias=False).double()
    nn.init.ones_(module.weight)
    x = torch.eye(2, dtype=torch.float64)
    return held(module, x, x.sum(1, keepdim=True), loss=SquaredError())


def test_the_rise_radius_of_a_bowl() -> None:
    found = measured(LossSlice(num_points=401, num_points_plane=3, rise=0.25), bowl())
    for name in ("first", "second"):
        assert found.estimate(f"rise_radius_{name}").value == pytest.approx(0.5, abs=1e-4)
        losses = found.array(f"losses_{name}")
        np.testing.assert_allclose(losses.data, losses.coords["step"] ** 2, atol=1e-12)
    assert found.notes == ()


def test_a_radius_beyond_the_span_is_at_least_the_span() -> None:
    part = LossSlice(num_points=9, num_points_plane=3, rise=0.25, span=0.4)
    found = measured(part, bowl())
    assert found.estimate("rise_radius_first").value == 0.4
    assert [note.code for note in found.notes] == ["rise_not_reached"]
    assert "does not rise" in part.reading(found)


@pytest.mark.parametrize(
    ("losses", "radius"),
    [
        ([1, 1, 0, 0, 0], 0.1),  # on the left only
        ([0, 0, 0, 0.2, 9], 0.5),
        ([9, 0.05, 0, 0.2, 9], 0.5),
        ([0, 0, 0, 0.1, 0], 1.0),
        ([0, 0, 0, np.nan, 0], 0.0),
        ([0, 0, 0, 0.05, np.inf], 1.0),
        ([0, 0, 0, 0, 0], np.inf),
        ([-9, -9, 0, -9, -9], np.inf),
    ],
)
def test_the_first_crossing_on_either_side(losses: list[float], radius: float) -> None:
    found = rise_radius(np.arange(-2.0, 3.0), np.array(losses, dtype=float), 0.1)
    assert found == pytest.approx(radius)


def test_what_is_not_finite_is_kept_and_said() -> None:
    module = nn.Linear(2, 1, bias=False)
    nn.init.ones_(module.weight)
    loss = OwnLoss(function=lambda outputs, y: outputs.mean().log())
    solution = held(module, torch.ones(6, 2), torch.zeros(6), loss=loss)
    found = measured(LossSlice(num_points=9, num_points_plane=9, span=4.0), solution)
    assert [note.code for note in found.notes] == ["not_finite"]
    assert np.isnan(found.array("losses_plane").data).any()
    assert {figure.name for figure in SLICE.figures(found)} == {"loss_lines", "loss_plane", "loss_surface"}


def test_figures_take_a_logarithmic_scale_where_losses_span_decades() -> None:
    lines, plane, _ = SLICE.figures(measured(replace(SLICE, span=30.0), relu()))
    assert lines.y.scale == "log"
    assert plane.z is not None
    assert plane.z.scale == "log"
    lines, *_ = SLICE.figures(measured(replace(SLICE, span=0.1), relu()))
    assert lines.y.scale == "linear"


def test_a_lower_place_on_the_plane_is_told() -> None:
    solution = bowl()
    solution.params["weight"].mul_(3.0)  # a slope, and a minimum within reach
    assert "no minimum" in SLICE.reading(measured(replace(SLICE, rise=1e-3), solution))


@pytest.mark.parametrize("normalisation", ["filter", "filter_scaled", "layer", "none"])
def test_normalisation_of_whole_pictures_is_not_perturbed(normalisation: str) -> None:
    """All that could move are the parameters of the normalisation, of three axes: there is no direction."""
    module = built(lambda: nn.Sequential(nn.LayerNorm([1, 2, 3]), nn.Flatten()))
    outcome = LossSlice(normalisation=normalisation).measure(held(module, random(9, 1, 2, 3), classes(9)), RNG)  # type: ignore[arg-type]
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "no_direction"
    for part in (BasinRadius(), BasinVolume()):
        assert isinstance(part.measure(held(module, random(9, 1, 2, 3), classes(9)), RNG), NotApplicable)


def test_networks_without_filters_have_no_directions() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    found = SLICE.measure(held(Scale(), random(4, 3), classes(4)), RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "no_direction"


def test_a_diverged_network_has_no_slice() -> None:
    solution = mlp()
    solution.params["0.weight"][0] = torch.nan
    found = SLICE.measure(solution, RNG)
    assert isinstance(found, NotApplicable)
    assert found.note.code == "not_finite"


@pytest.mark.parametrize("wrong", [{"num_points": 8}, {"num_points_plane": 1}, {"span": 0.0}, {"rise": -1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        LossSlice(**wrong)  # type: ignore[arg-type]
    assert LossSlice.tiny().num_points == 5


def test_refined_planes_cost_a_third_and_keep_the_centre() -> None:
    solution = bowl()
    plain = measured(LossSlice(num_points=9, num_points_plane=25), solution)
    found = measured(LossSlice(num_points=9, num_points_plane=25, refine=True), solution)
    flat, computed = found.array("losses_plane"), found.array("plane_computed").data
    assert flat.data.shape == (49, 49)
    assert 49 <= computed.sum() <= 25 * 25 / 3
    # The grids share every fourth point of the finer one and every second of the coarser.
    np.testing.assert_allclose(flat.data[::4, ::4], plain.array("losses_plane").data[::2, ::2], rtol=0.02)
    assert flat.data[24, 24] == plain.estimate("centre_loss").value


def test_a_plane_that_is_too_rough_for_refinement_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    part = LossSlice(num_points=9, num_points_plane=25, refine=True)
    assert "rough_plane" not in {note.code for note in measured(part, bowl()).notes}
    monkeypatch.setattr(loss_slice, "refined_plane", lambda *a, **b: replace(refined_plane(*a, **b), gain=0.35))
    (note,) = (note for note in measured(part, bowl()).notes if note.code == "rough_plane")
    assert "35 %" in note.text and "refine=False" in note.text


def test_of_a_part_of_the_data_lines_have_error_bars() -> None:
    found = measured(LossSlice(num_points=9, num_points_plane=3, max_examples=8), mlp())
    assert (found.array("errors_first").data > 0).all()
    rise = found.array("rise_errors_first").data
    assert rise[4] == 0
    assert (rise[[3, 5]] < found.array("errors_first").data[[3, 5]]).all()
    kinds = [mark.kind for mark in SLICE.figures(found)[0].marks]
    assert kinds == ["line", "line", "band", "band"]
    centre = found.estimate("centre_loss")
    assert centre.stderr == found.array("errors_first").data[4] and centre.n == 8


def test_error_bars_know_how_many_examples_there_are() -> None:
    """Of a split of 17, 16: what is left to chance is one of them (see the landscape's own test for the coverage)."""
    found = measured(LossSlice(num_points=3, num_points_plane=3, max_examples=16), mlp())
    of_many = measured(LossSlice(num_points=3, num_points_plane=3, max_examples=4), mlp())
    assert (found.array("errors_first").data < of_many.array("errors_first").data / 3).all()
