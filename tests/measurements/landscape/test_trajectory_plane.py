"""The plane of a training: a descent in a bowl of known axes, the loss at the places that the path passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.measurements.contract import RNG, must_be_shown
from tests.numerics.solutions import mlp
from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result
from vallis.measurements.landscape.trajectory_plane import TrajectoryPlane
from vallis.numerics.surface import in_eval_mode
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, QuadraticBowl
from vallis.testing.toys.solutions import path

BOWL = path(QuadraticBowl(eigenvalues=(1.0, 0.5, 1e-9)), LinearModel(), Rng(0), tuple(range(0, 40, 2)), rate=0.1)


def asked(part: TrajectoryPlane, solutions: object) -> Result:
    found = part.measure(solutions, RNG)
    assert isinstance(found, Result), found
    must_be_shown(part, found)
    return found


def test_a_descent_in_a_bowl_lies_on_the_plane_of_its_steep_axes() -> None:
    found = asked(TrajectoryPlane(num_points=5), BOWL)
    assert found.estimate("plane_fraction").value == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(found.array("distance_to_plane").data, 0, atol=1e-6)
    path_ = found.array("path").data
    assert path_[-1] == pytest.approx([0.0, 0.0], abs=1e-12)
    points = np.stack([np.asarray(each.params["weight"]).ravel() for each in BOWL])
    apart = np.linalg.norm(points - points[-1], axis=1)
    np.testing.assert_allclose(np.linalg.norm(path_, axis=1), apart, atol=1e-6)


def test_the_losses_are_those_of_the_network_at_the_corners() -> None:
    """Three moments at a right angle, along two weights: they are three corners of the grid."""
    end = path(Blobs(double=True), TinyMlp(double=True), Rng(0), (60,))[0]
    name = next(iter(end.params))
    sides = []
    for place, length in ((0, 2.0), (1, 1.0)):
        value = end.params[name].clone()
        value.view(-1)[place] += length
        sides.append(replace(end, params={**end.params, name: value}))
    found = asked(TrajectoryPlane(num_points=2, margin=0.0), (*sides, end))
    losses = [Objective(in_eval_mode(each)).value() for each in (end, *sides)]
    corners = found.array("losses").data
    assert [corners[0, 0], corners[0, 1], corners[1, 0]] == pytest.approx(losses)
    np.testing.assert_allclose(found.array("path").data, [[2, 0], [0, 1], [0, 0]], atol=1e-9)
    assert found.array("explained_fractions").data == pytest.approx([0.8, 0.2])


def test_what_has_no_plane() -> None:
    one = mlp()
    moved = replace(one, params={name: value + 1 for name, value in one.params.items()})
    for solutions, code in (((one, moved), "too_few_moments"), ((one, one, one), "one_point")):
        outcome = TrajectoryPlane().measure(solutions, RNG)
        assert isinstance(outcome, NotApplicable) and outcome.note.code == code
    with pytest.raises(SettingsError):
        TrajectoryPlane(num_points=1)
