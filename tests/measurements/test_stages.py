"""What follows a training of several stages tells of the last, as if there were no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vallis.core.own import coordinates
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.types import Array, Job, Result, StepInfo
from vallis.measurements._stages import is_next, none, notes
from vallis.measurements.fit.early_stopping_potential import EarlyStoppingPotential
from vallis.measurements.fit.learning_curve import LearningCurve
from vallis.measurements.memorization.example_dynamics import ExampleDynamics
from vallis.numerics.transition_matrix import estimate_transition, predicted_probabilities
from vallis.problems.noisy_labels import NoisyLabels
from vallis.run.execute import execute
from vallis.run.store import Store
from vallis.run.train import ground, train, watch
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training.fine_tuning import FineTuning
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


# The name of the stage of a solution, by its step.
CORRECTING = LossCorrection(base=DESCENT, first=FIRST)
STAGES: list[tuple[Any, dict[int, str]]] = [
    (DESCENT, {0: "", 43: ""}),
    (LossCorrection(base=DESCENT, transition=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))), {0: "", 43: ""}),
    (
        CORRECTING,
        {
            0: "estimating the transition matrix",
            20: "estimating the transition matrix",
            21: "with the corrected loss",  # it stands at the first weights again
            64: "with the corrected loss",
        },
    ),
    (IterativePruning(base=FIRST, num_rounds=1), {0: "round 1", 20: "round 1", 21: "round 2", 42: "round 2"}),
    # The second goes on from the weights of the first, and so in its stage.
    (
        FineTuning(base=CORRECTING, tuning=FIRST, num_steps=30),
        {
            0: "estimating the transition matrix",
            21: "with the corrected loss",
            30: "with the corrected loss",
            51: "with the corrected loss",
        },
    ),
]


@pytest.mark.parametrize(("training", "stages"), STAGES, ids=[type(training).__name__ for training, _ in STAGES])
def test_a_solution_knows_its_stage_also_after_a_rest(training: Any, stages: dict[int, str]) -> None:
    job = Job(problem=NOISY, model=TinyMlp(), training=training, snapshots=tuple(stages))
    assert {found.step: found.stage for found in train(job)} == stages
    on, rng = ground(NOISY, TinyMlp(), 0), Rng(0).child("training")
    state = training.init(on.net, *coordinates(on.net.module), on.tasks, rng)
    info, said = StepInfo(step=0, loss=0.0), {}
    while not info.done:
        state = training.unpack(training.pack(state), on.net, on.tasks, rng)
        said[training.solution(state).step] = training.solution(state).stage
        info = training.step(state)
        if info.step not in stages or info.done:  # where a stage ends, the next one stands at its first weights
            assert info.stage == training.solution(state).stage
    assert all(said[step] == name for step, name in stages.items() if step < info.step)


def test_of_a_path_through_several_stages_the_last_is_measured(tmp_path: Path) -> None:
    """With the snapshots of the first stage, the best moment was looked for among those of another network, too."""
    outcomes = []
    for number, snapshots in enumerate([(0, 5, 20, 21, 40), (21, 40)]):
        measurements = (EarlyStoppingPotential(test_split="true_labels"),)
        job = Job(problem=NOISY, model=TinyMlp(), training=CORRECTING, snapshots=snapshots, measurements=measurements)
        (row,) = execute([job], Store(tmp_path / str(number))).rows
        assert isinstance(row.outcome, Result)
        outcomes.append(row.outcome)
    whole, last = outcomes
    must_be_equal(whole, last)
    assert last.array("test_accuracy").coords["step"].tolist() == [21, 40, 64]
    assert [note.text for note in whole.notes if note.code == "last_stage"] == [
        "The training had several stages, each from the first weights on; this is of the last, with the corrected "
        "loss, without the snapshots of others at step 0, 5, 20."
    ]
    assert not [note for note in last.notes if note.code == "last_stage"]
