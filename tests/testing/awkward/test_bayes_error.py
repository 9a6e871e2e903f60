"""A theory: a curve that needs no network."""

from __future__ import annotations

import pytest

from vallis.core.protocols import Theory
from vallis.core.rng import Rng
from vallis.core.types import Result
from vallis.testing.awkward.bayes_error import BayesError
from vallis.testing.toys.problems import Blobs

THEORY = BayesError(largest_distance=4.0, num_points=5)


def found() -> Result:
    outcome = THEORY.compute(Rng(0))
    assert isinstance(outcome, Result)
    return outcome


def test_the_curve_is_the_normal_distribution() -> None:
    curve = found().array("error")
    assert curve.coords["distance"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    # Phi at 0, -1/2, -1, -3/2 and -2, from a table.
    assert curve.data == pytest.approx([0.5, 0.3085375, 0.1586553, 0.0668072, 0.0227501], abs=1e-7)


def test_it_agrees_with_the_toy() -> None:
    for distance, error in zip(found().array("error").coords["distance"], found().array("error").data, strict=True):
        assert Blobs(distance=float(distance)).bayes_error == pytest.approx(error, rel=1e-12)


def test_it_is_a_theory() -> None:
    assert isinstance(THEORY, Theory)
    assert "0.023" in THEORY.reading(found())
    assert THEORY.figures(found())[0].marks[0].kind == "line"
