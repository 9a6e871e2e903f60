"""A measurement of two solutions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vallis.core.objective import Objective
from vallis.core.protocols import Measurement
from vallis.core.rng import Rng
from vallis.core.types import Result, Solution
from vallis.run.measure import measure
from vallis.testing.awkward.loss_barrier import LossBarrier
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.testing.toys.solutions import start, trained


def barrier(one: Solution, other: Solution) -> Result:
    outcome = measure((one, other), LossBarrier())
    assert isinstance(outcome, Result)
    return outcome


def test_there_is_none_in_a_convex_landscape() -> None:
    one, other = start(LinearRegression(), LinearModel(), Rng(0)), trained(LinearRegression(), LinearModel(), Rng(0))
    assert barrier(one, other).estimate("barrier").value == pytest.approx(0.0, abs=1e-12)


def test_there_is_one_between_two_permutations_of_one_function() -> None:
    one = trained(Blobs(distance=5.0), TinyMlp(widths=(4,)), Rng(0), steps=200, rate=1.0)
    order = [3, 2, 1, 0]
    params = dict(one.params)
    params["1.weight"], params["1.bias"] = params["1.weight"][order], params["1.bias"][order]
    params["3.weight"] = params["3.weight"][:, order]
    other = replace(one, params=params)
    found = barrier(one, other)
    assert found.estimate("barrier").value > 0.05
    losses = found.array("loss").data
    assert losses[0] == pytest.approx(Objective(one).value(), rel=1e-6)
    assert losses[-1] == pytest.approx(losses[0], rel=1e-5), "the ends are the same function"
    assert losses == pytest.approx(barrier(other, one).array("loss").data[::-1], rel=1e-5)


def test_it_is_asked_of_a_pair() -> None:
    question = LossBarrier()
    assert isinstance(question, Measurement)
    one = start(Blobs(), TinyMlp(), Rng(0))
    found = barrier(one, one)
    assert found.estimate("barrier").value == 0.0
    assert "nats" in question.reading(found)
    assert question.figures(found)[0].marks[0].y is found.array("loss").data
