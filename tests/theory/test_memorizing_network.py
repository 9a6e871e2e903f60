"""The curve against the construction itself, on real digits, with the limits of float64 and float32 as notes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.measurements.contract import must_be_shown, must_be_the_same
from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng
from vallis.core.types import Result
from vallis.problems.digits import Digits
from vallis.testing.awkward.graphs import CyclesAndPaths
from vallis.theory.memorizing_network import MemorizingNetwork

CURVE = MemorizingNetwork(sizes=(25, 100, 400, 1300, 5000), depths=(2, 3, 5, 9))


@pytest.fixture(scope="module")
def found() -> Result:
    result = CURVE.compute(Rng(0))
    assert isinstance(result, Result)
    return result


def test_sizes_of_the_theorem(found: Result) -> None:
    """2n + d weights; a width of ceil(n / (k - 1)) thresholds and at most two carried numbers."""
    weights = found.array("num_parameters")
    assert weights.coords["num_examples"].tolist() == [25, 100, 400, 1300]  # of 1,348 digits
    assert weights.data.tolist() == [2 * n + 64 for n in (25, 100, 400, 1300)]
    width = found.array("width")
    thresholds = np.ceil(1300 / (width.coords["depth"] - 1))
    assert ((width.data >= thresholds) & (width.data <= thresholds + 2)).all()
    assert (found.array("num_parameters_by_depth").data <= 2 * 1300 + 64 + 1 + 9).all()


def test_errors_and_their_limits(found: Result) -> None:
    double, single = found.array("error_float64").data, found.array("error_float32").data
    assert (double[:3] <= 1e-6 * 10).all()
    assert single[-1] > 0.5
    assert (single > 1e3 * double).all()
    assert (np.diff(found.array("condition").data) > 0).all()
    assert found.estimate("largest_error").value == double[-1]
    notes = {note.code: note.text for note in found.notes}
    first = next(n for n, error in zip((25, 100, 400, 1300), single, strict=True) if not error < 0.5)
    assert f"n = {first} " in notes["float32_fails"]
    assert ("float64_is_inaccurate" in notes) == bool(double[-1] > 1e-5)


def test_it_is_shown_and_repeatable(found: Result) -> None:
    must_be_shown(CURVE, found)
    must_be_the_same(found, CURVE.compute(Rng(0)))
    assert "2,664 weights" in CURVE.reading(found)


def test_impossible_settings_are_refused() -> None:
    for settings in ({"sizes": ()}, {"sizes": (4, 2)}, {"sizes": (0, 2)}, {"depths": (1, 2)}):
        with pytest.raises(SettingsError, match="must rise"):
            MemorizingNetwork(**settings)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="one number each"):
        MemorizingNetwork(problem=CyclesAndPaths()).compute(Rng(0))


def test_no_size_fits() -> None:
    result = MemorizingNetwork(problem=Digits(test_fraction=0.99), sizes=(100,), depths=(2, 99)).compute(Rng(0))
    assert isinstance(result, Result)
    assert result.array("num_parameters").coords["num_examples"].tolist() == [18]
    assert result.array("width").coords["depth"].tolist() == [2]
