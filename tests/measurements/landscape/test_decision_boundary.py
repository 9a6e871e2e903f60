"""Maps: of two inputs and of planes through three, against the network itself; galleries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.numerics.solutions import AWKWARD, batch_norm, binary, built, classes, held, mlp, random, regression
from vallis.core.errors import SettingsError, UsageError
from vallis.core.types import NotApplicable
from vallis.measurements.landscape.decision_boundary import DecisionBoundary, gallery

MAP = DecisionBoundary(num_points=21)


@pytest.mark.parametrize("make", [mlp, binary, batch_norm])
def test_it_keeps_the_contract(make: object) -> None:
    found = measured(MAP, make())  # type: ignore[operator]
    assert found.array("classes").data.shape == (21, 21)
    assert (found.array("probability_margins").data >= 0).all()


def test_a_map_of_two_inputs_is_the_network_on_a_grid() -> None:
    solution = mlp()
    found = measured(MAP, solution).array("classes")
    x, y = found.coords["first_input"], found.coords["second_input"]
    with torch.no_grad():
        point = torch.tensor([[x[3], y[17]]], dtype=torch.float32)
        assert float(solution.net.module(point).argmax()) == found.data[17, 3]
    data = solution.task.splits["train"].x  # type: ignore[attr-defined]
    for axis, side in ((0, x), (1, y)):
        assert side[0] < float(data[:, axis].min()) and float(data[:, axis].max()) < side[-1]


def test_a_line_has_the_length_of_a_line() -> None:
    """``w x > 0`` in the plane: the boundary is the diagonal of the square map."""
    module = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    solution = held(module, corners, torch.tensor([0, 0, 0, 0]))
    found = measured(DecisionBoundary(num_points=100, margin=0.0), solution)
    length = found.estimate("boundary_length").value
    assert length == pytest.approx(2 * 2**0.5, rel=0.06)
    assert found.estimate("num_regions").value == 2
    right = found.array("examples").data
    assert right[0].tolist() == [1.0, 1.0, 0.0, 1.0] and right[3, 3] == 0.0


def test_a_plane_goes_through_the_three_examples() -> None:
    solution = batch_norm()
    part = DecisionBoundary(num_points=31, examples=(2, 5, 9))
    found = measured(part, solution)
    points = found.array("examples").data
    chosen = solution.task.splits["train"].take(torch.tensor([2, 5, 9]))
    apart = (chosen.x[0] - chosen.x[1]).norm()
    assert float(np.linalg.norm(points[1, :2] - points[0, :2])) == pytest.approx(float(apart), rel=1e-5)
    assert points[:, 2].tolist() == chosen.y.tolist()
    with torch.no_grad():
        wanted = (solution.net.module(chosen.x).argmax(1) == chosen.y).double()
    assert points[:, 3].tolist() == wanted.tolist()
    assert found.array("classes").dims == ("across", "along")


def test_three_are_chosen_of_different_classes() -> None:
    found = measured(DecisionBoundary(num_points=5), batch_norm()).array("examples").data
    assert sorted(found[:, 2].tolist()) == [0.0, 1.0, 2.0]
    other = measured(DecisionBoundary(num_points=5, seed=1), batch_norm()).array("examples").data
    assert not np.array_equal(found, other)


def test_what_has_no_map_says_so() -> None:
    for make in (regression, AWKWARD["tokens"]):
        outcome = MAP.measure(make(), RNG)
        assert isinstance(outcome, NotApplicable) and outcome.note.code == "not_classification"
    one = held(built(lambda: nn.Linear(3, 3)), random(2, 3), classes(2))
    for solution, part in ((one, MAP), (batch_norm(), DecisionBoundary(examples=(0, 1, 99)))):
        outcome = part.measure(solution, RNG)
        assert isinstance(outcome, NotApplicable) and outcome.note.code == "no_plane"


def test_maps_side_by_side() -> None:
    results = {name: measured(MAP, make()) for name, make in (("one", binary), ("other", binary))}
    figure = gallery(results)
    (*points, ground) = figure.marks
    assert ground.z.shape == (21, 43)
    assert np.isnan(ground.z[:, 21]).all()
    np.testing.assert_array_equal(ground.z[:, :21], ground.z[:, 22:])
    assert len(ground.x) == 43
    assert "one, other" in figure.caption
    shifts = [mark.x[0] for mark in points if mark.label == points[0].label]
    assert shifts[1] - shifts[0] == pytest.approx(ground.x[22] - ground.x[0])
    with pytest.raises(UsageError, match="one size"):
        gallery({"small": measured(DecisionBoundary(num_points=5), mlp()), "large": results["one"]})


@pytest.mark.parametrize("settings", [{"num_points": 1}, {"examples": (1, 1, 2)}, {"margin": -1.0}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        DecisionBoundary(**settings)  # type: ignore[arg-type]
