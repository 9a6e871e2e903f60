"""A measurement that watches training, against losses written down step by step."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.measurements.contract import must_be_shown
from vallis.core.errors import SettingsError
from vallis.core.protocols import Watcher
from vallis.core.robust_losses import Robust
from vallis.core.types import Job, NotApplicable, Result, StepInfo
from vallis.measurements.fit.learning_curve import LearningCurve
from vallis.run.train import ground, watch
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent
from vallis.training.robust_loss import RobustLoss

CURVE = LearningCurve(window=3, level=0.5)
TASKS = ground(Blobs(), TinyMlp(), 0).tasks


def result(losses: list[float], curve: LearningCurve = CURVE) -> Result:
    memory = curve.begin(TASKS)
    for step, loss in enumerate(losses, start=1):
        curve.watch(memory, StepInfo(step=step, loss=loss))
    found = curve.conclude(memory)
    assert isinstance(found, Result)
    again = curve.conclude(memory)
    assert isinstance(again, Result)
    np.testing.assert_array_equal(found.array("training_loss").data, again.array("training_loss").data)
    must_be_shown(curve, found)
    return found


def test_windows_are_means_and_the_last_holds_the_rest() -> None:
    found = result([3.0, 2.0, 1.0, 0.6, 0.5, 0.4, 0.2, 0.4])
    np.testing.assert_allclose(found.array("training_loss").data, [2.0, 0.5, 0.3])
    np.testing.assert_array_equal(found.array("training_loss").coords["step"], [3, 6, 8])
    assert found.estimate("steps_to_level").value == 6
    assert found.estimate("last_training_loss").value == pytest.approx(0.3)
    assert found.array("training_loss").unit == "nats"
    assert found.notes == ()
    assert "at or below 0.5 for the first time after 6." in CURVE.reading(found)


def test_a_level_that_is_never_reached() -> None:
    found = result([3.0, 2.0, 1.0])
    assert "steps_to_level" not in found.values
    assert [note.code for note in found.notes] == ["level_not_reached"]
    assert CURVE.reading(found).endswith("never comes down to 0.5.")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_training_that_diverges(bad: float) -> None:
    found = result([1.0, 1.0, 1.0, bad])
    assert math.isnan(found.array("training_loss").data[1])
    assert [note.code for note in found.notes] == ["not_finite"]


def test_no_step_no_curve() -> None:
    assert isinstance(CURVE.conclude(CURVE.begin(TASKS)), NotApplicable)


def test_of_a_training() -> None:
    assert isinstance(CURVE, Watcher)
    training = GradientDescent(learning_rate=0.1, batch_size=None, max_steps=7)
    job = Job(problem=Blobs(), model=TinyMlp(), training=training, measurements=(replace(CURVE, window=1),), seed=0)
    (solution,), (found,) = watch(job)
    assert isinstance(found, Result)
    curve = found.array("training_loss")
    assert len(curve.data) == solution.step == 7
    assert curve.data[0] > curve.data[-1]
    _, (other,) = watch(replace(job, problem=LinearRegression(), model=LinearModel()))
    assert isinstance(other, Result)
    assert other.array("training_loss").unit == "1"


def test_impossible_settings_are_refused() -> None:
    for settings in ({"window": 0}, {"level": math.nan}):
        with pytest.raises(SettingsError, match="a window of at least 1 step"):
            LearningCurve(**settings)  # type: ignore[arg-type]


def test_a_step_that_was_not_made_is_none_of_the_curve() -> None:
    """A training of no steps tells that it is done, with a loss that is no number: it had "diverged" in one step."""
    training = GradientDescent(max_steps=0)
    _, (found,) = watch(Job(problem=Blobs(), model=TinyMlp(), training=training, measurements=(CURVE,), seed=0))
    assert isinstance(found, NotApplicable)
    assert found.note.code == "no_steps"


@pytest.mark.parametrize(("loss", "unit"), [("unhinged", "1"), ("sigmoid", "1"), ("bootstrap", "nats")])
def test_the_unit_is_that_of_the_loss_that_is_trained(loss: Robust, unit: str) -> None:
    descent = GradientDescent(learning_rate=0.1, batch_size=None, max_steps=4)
    for training in (RobustLoss(base=descent, loss=loss), EarlyStopping(base=RobustLoss(base=descent, loss=loss))):
        _, (found,) = watch(Job(problem=Blobs(), model=TinyMlp(), training=training, measurements=(CURVE,), seed=0))
        assert isinstance(found, Result)
        assert (found.array("training_loss").unit, found.estimate("last_training_loss").unit) == (unit, unit)
        assert ("nats" in CURVE.reading(found)) == (unit == "nats")
