"""What watches a training of several stages tells of the last, as if there were no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vallis.core.protocols import Training
from vallis.core.types import Array, Job, Result, StepInfo
from vallis.measurements._stages import is_next, none, notes
from vallis.measurements.fit.learning_curve import LearningCurve
from vallis.measurements.memorization.example_dynamics import ExampleDynamics
from vallis.numerics.transition_matrix import estimate_transition, predicted_probabilities
from vallis.problems.noisy_labels import NoisyLabels
from vallis.run.train import watch
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training.gradient_descent import GradientDescent
from vallis.training.iterative_pruning import IterativePruning
from vallis.training.loss_correction import LossCorrection

NOISY = NoisyLabels(base=Blobs(num_classes=3, num_train=60), rate=0.3)
DESCENT = GradientDescent(learning_rate=0.1, momentum=0.9, batch_size=8, max_steps=43)
# Shorter than the second stage, no multiple of a window, and the end of no epoch.
FIRST = GradientDescent(learning_rate=0.3, batch_size=8, max_steps=21)
WATCHERS = (ExampleDynamics(num_early=2, num_named=3), LearningCurve(window=4, level=0.9))


def watched(training: Training) -> tuple[Any, list[Result]]:
    job = Job(problem=NOISY, model=TinyMlp(), training=training, measurements=WATCHERS)
    (solution,), outcomes = watch(job)
    assert all(isinstance(outcome, Result) for outcome in outcomes)
    return solution, [outcome for outcome in outcomes if isinstance(outcome, Result)]


def must_be_equal(found: Result, wanted: Result) -> None:
    assert set(found.values) == set(wanted.values)
    for name, value in wanted.values.items():
        if isinstance(value, Array):
            held = found.array(name)
            np.testing.assert_array_equal(held.data, value.data, err_msg=name)
            for axis, places in value.coords.items():
                np.testing.assert_array_equal(held.coords[axis], places, err_msg=name)
        else:
            assert found.values[name] == value, name


def test_of_a_corrected_training_they_tell_of_the_correction() -> None:
    alone, _ = watched(FIRST)
    estimate = estimate_transition(predicted_probabilities(alone), percentile=97.0).matrix
    rows = tuple(tuple(row) for row in estimate.tolist())
    _, wanted = watched(LossCorrection(base=DESCENT, transition=rows))
    _, found = watched(LossCorrection(base=DESCENT, first=FIRST))
    for one, other in zip(found, wanted, strict=True):
        must_be_equal(one, other)
        assert "last_stage" not in [note.code for note in other.notes]
        (said,) = (note.text for note in one.notes if note.code == "last_stage")
        assert said == (
            "The training had 2 stages, each from the first weights on; this is of the last, with the corrected loss, "
            "after 21 steps."
        )
    assert found[0].array("presentations").data.max() == 6


def test_of_rounds_of_pruning_they_tell_of_the_last() -> None:
    _, (dynamics, curve) = watched(IterativePruning(base=FIRST, num_rounds=2))
    assert dynamics.array("presentations").data.sum() == 2 * 60 + 5 * 8
    assert curve.array("training_loss").coords["step"].tolist() == [4, 8, 12, 16, 20, 21]
    (said,) = (note.text for note in dynamics.notes if note.code == "last_stage")
    assert "3 stages" in said and "the last, round 3, after 42 steps" in said


@pytest.mark.parametrize("names", [[""], ["a"], ["a", "b"], ["a", "b", "a"]])
def test_a_stage_begins_where_its_name_changes(names: list[str]) -> None:
    memory, begun = none(), []
    for place, name in enumerate(names):
        for step in (1, 2):
            begun.append(is_next(memory, StepInfo(step=2 * place + step, loss=0.0, stage=name, index=torch.arange(2))))
    assert begun == [False, False, *[True, False] * (len(names) - 1)]
    assert len(notes(memory)) == (len(names) > 1)
