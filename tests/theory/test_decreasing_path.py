"""The toy that never arrives: the survey card's numbers, and the asymptotes."""

from __future__ import annotations

import math

import pytest

from vallis.core.errors import SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Result
from vallis.theory.decreasing_path import DecreasingPath


def test_it_follows_its_asymptotes() -> None:
    part = DecreasingPath()
    found = part.compute(Rng(0))
    assert isinstance(found, Result)
    # Corrections are of the order b exp(-2 b), 0.02 here.
    assert found.estimate("end_objective").value == pytest.approx(0.00025, rel=0.04)
    assert found.estimate("objective_over_limit").value == pytest.approx(1.0, abs=0.04)
    assert found.estimate("objective_growth").value == pytest.approx(-1.0, abs=0.04)
    assert found.estimate("end_b").value == pytest.approx(math.log(2 * 0.05 * 1000) / 2, abs=0.02)
    assert found.estimate("to_infinity").value == 1.0
    assert found.estimate("end_a").value == pytest.approx(math.exp(-found.estimate("end_b").value), rel=0.02)
    assert part.reading(found).endswith("at infinity.")
    assert [len(mark.y) for mark in part.figures(found)[0].marks] == [len(found.array("limits").data)] * 2


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SettingsError):
        DecreasingPath(penalty=0.0)
    with pytest.raises(SettingsError, match="stay stable"):
        DecreasingPath(learning_rate=0.01)
