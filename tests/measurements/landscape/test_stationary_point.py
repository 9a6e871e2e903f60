"""Stationary points as a measurement: a minimum that is reached, a network on its way, one that is bad on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.measurements.contract import measured
from tests.numerics.solutions import mlp
from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate
from vallis.measurements.landscape.stationary_point import StationaryPoint
from vallis.numerics.stationary_points import KINDS
from vallis.testing.toys.models import LinearModel
from vallis.testing.toys.problems import QuadraticBowl
from vallis.testing.toys.solutions import trained

CHECK = StationaryPoint(num_directions=10)


def test_the_bottom_of_a_bowl_and_a_slope() -> None:
    bottom = trained(QuadraticBowl(eigenvalues=(2.0, 1.0, 0.5)), LinearModel(), Rng(0), 400, rate=0.5)
    found = measured(CHECK, bottom)
    assert KINDS[int(found.estimate("kind").value)] == "strict_minimum"
    assert found.estimate("smallest_eigenvalue").value == pytest.approx(0.5)
    assert found.estimate("largest_eigenvalue").value == pytest.approx(2.0)
    assert found.array("downhill_changes").data[-1] == pytest.approx(0.5 * 0.5 * 0.1**2)
    assert "strict minimum" in CHECK.reading(found)
    assert "no stationary point" in CHECK.reading(measured(CHECK, mlp()))


def test_a_curvature_along_which_nothing_falls_is_said() -> None:
    found = measured(CHECK, mlp())
    radii = found.array("downhill_changes").coords
    rising = Array(data=np.full(len(radii["radius"]), 1e-7), dims=("radius",), unit="nats", coords=radii)
    values = {**found.values, "smallest_eigenvalue": Estimate(value=-1e-4, method="given"), "downhill_changes": rising}
    assert "does not fall along it" in CHECK.reading(replace(found, values=values))


def test_a_search_that_is_cut_short_says_so() -> None:
    found = StationaryPoint(num_directions=2, max_products=2).measure(mlp(num_examples=30), Rng(0))
    assert "not_converged" in [note.code for note in found.notes]
    for settings in ({"radii": ()}, {"gradient_tolerance": 0.0}, {"num_directions": 0}):
        with pytest.raises(SettingsError):
            StationaryPoint(**settings)  # type: ignore[arg-type]
