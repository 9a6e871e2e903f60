from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.runs import bits, follow, ground
from vallis.core import spec
from vallis.core.corrected_losses import BackwardCorrected, ForwardCorrected
from vallis.core.data import Arrays
from vallis.core.errors import DataError, LossError, SettingsError
from vallis.core.own import coordinates
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.types import Solution, StepInfo
from vallis.numerics.transition_matrix import estimate_transition, predicted_probabilities, symmetric
from vallis.problems.arrays import Arrays as ArraysProblem
from vallis.problems.noisy_labels import NoisyLabels
from vallis.testing.conformance.trainings import CHECKS
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent
from vallis.training.loss_correction import LossCorrection

DESCENT = GradientDescent(learning_rate=0.2, momentum=0.9, batch_size=8, max_steps=40)
NOISY = NoisyLabels(base=Blobs(num_classes=3, num_train=60), rate=0.3)
MODEL = TinyMlp(dropout=0.1)
TRUE = tuple(tuple(row) for row in symmetric(3, 0.3).tolist())
IDENTITY = tuple(tuple(row) for row in torch.eye(3).tolist())


def run(part: Training, problem: Any = NOISY) -> tuple[Solution, list[StepInfo]]:
    net, tasks = ground(problem, MODEL)
    state = part.init(net, *coordinates(net.module), tasks, Rng(0).child("training"))
    infos = follow(part, state)  # type: ignore[arg-type]
    return part.solution(state), infos


@pytest.mark.parametrize("correction", ["forward", "backward"])
def test_corrected_by_the_identity_it_is_the_plain_training(correction: Any) -> None:
    """Bit for bit: dropout, ragged last batches and momentum included."""
    part = LossCorrection(base=DESCENT, correction=correction, transition=IDENTITY, least_probability=0.0)
    plain, corrected = run(DESCENT), run(part)
    assert bits(plain[0]) == bits(corrected[0])
    assert [info.step for info in corrected[1]] == [info.step for info in plain[1]]


@pytest.mark.parametrize(("correction", "made"), [("forward", ForwardCorrected), ("backward", BackwardCorrected)])
def test_it_goes_down_the_corrected_loss(correction: Any, made: Any) -> None:
    """A first step of plain descent by hand."""
    descent = GradientDescent(learning_rate=0.3, batch_size=None, max_steps=1)
    net, tasks = ground(NOISY, TinyMlp())
    params, buffers = coordinates(net.module)
    part = LossCorrection(base=descent, correction=correction, transition=TRUE)
    state = part.init(net, params, buffers, tasks, Rng(0))
    info = part.step(state)
    (batch,) = tasks[0].splits["train"]
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    outputs = torch.func.functional_call(net.module, leaves, (batch.x,))
    loss = made(transition=TRUE, least_probability=1e-7).mean(outputs, batch.y)
    slopes = torch.autograd.grad(loss, list(leaves.values()))
    assert info.loss == pytest.approx(loss.item(), rel=1e-5)
    for (name, value), slope in zip(leaves.items(), slopes, strict=True):
        torch.testing.assert_close(part.solution(state).params[name], (value - 0.3 * slope).detach())


def test_both_stages_are_what_they_would_be_alone() -> None:
    """The first finds what it finds without the second; the second is the training with the estimate handed in."""
    first = EarlyStopping(base=DESCENT, check_every=5)
    alone, before = run(first)
    estimate = estimate_transition(predicted_probabilities(alone), percentile=80.0).matrix
    rows = tuple(tuple(row) for row in estimate.tolist())
    wanted, after = run(LossCorrection(base=DESCENT, transition=rows))
    found, infos = run(LossCorrection(base=DESCENT, first=first, percentile=80.0))
    assert bits(found) == bits(wanted)
    assert [info.loss for info in infos] == [info.loss for info in (*before, *after)]
    assert [info.step for info in infos] == list(range(1, 81))
    assert [info.done for info in infos] == [False] * 79 + [True]
    assert infos[39].reason == ""
    assert found.step == 80


def test_mixed_with_all_of_the_identity_nothing_is_corrected() -> None:
    part = LossCorrection(base=DESCENT, identity_share=1.0, least_probability=0.0)
    assert bits(run(part)[0]) == bits(run(DESCENT)[0])


def test_a_first_stage_of_no_steps_is_no_step() -> None:
    none = GradientDescent(max_steps=0)
    found, infos = run(LossCorrection(base=DESCENT, first=none, identity_share=0.5))
    assert [info.step for info in infos] == list(range(1, 41))
    assert found.step == 40


@pytest.mark.parametrize("settings", [{}, {"first": EarlyStopping(base=GradientDescent.tiny(), check_every=3)}])
@pytest.mark.parametrize("correction", ["forward", "backward"])
def test_it_conforms_around_gradient_descent(settings: dict[str, Any], correction: Any) -> None:
    part = LossCorrection(base=GradientDescent.tiny(), correction=correction, identity_share=0.3, **settings)
    for check in CHECKS.values():
        check(part)


def test_it_resumes_in_the_middle_of_both_stages() -> None:
    part = LossCorrection(base=DESCENT, first=EarlyStopping(base=DESCENT, check_every=5))
    net, tasks = ground(NOISY, MODEL)
    rng = Rng(0).child("training")
    wanted = bits(run(part)[0])
    for stop in (17, 40, 63):
        state = part.init(net, *coordinates(net.module), tasks, rng)
        follow(part, state, stop)  # type: ignore[arg-type]
        again = part.unpack(part.pack(state), net, tasks, rng)
        assert (again.transition is None) == (stop < 40)
        follow(part, again)  # type: ignore[arg-type]
        assert bits(part.solution(again)) == wanted


def test_the_task_keeps_its_loss_and_the_settings_survive_json() -> None:
    part = LossCorrection(base=DESCENT, transition=TRUE)
    found, _ = run(part)
    assert type(found.task.loss).__name__ == "CrossEntropy"
    assert spec.from_spec(spec.to_spec(part)) == part
    both = LossCorrection(base=DESCENT, first=EarlyStopping(base=DESCENT), percentile=None)
    assert spec.from_spec(spec.to_spec(both)) == both


def test_what_cannot_be_corrected_is_refused() -> None:
    for settings in ({"correction": "sideways"}, {"percentile": 0.0}, {"identity_share": 2.0}):
        with pytest.raises(SettingsError, match="loss_correction"):
            LossCorrection(base=DESCENT, **settings)
    with pytest.raises(SettingsError, match="both came"):
        LossCorrection(base=DESCENT, transition=TRUE, first=DESCENT)
    with pytest.raises(LossError, match="add up to one"):
        LossCorrection(base=DESCENT, transition=((0.5, 0.6), (0.0, 1.0)))
    with pytest.raises(LossError, match="with an inverse"):
        LossCorrection(base=DESCENT, correction="backward", transition=((0.5, 0.5), (0.5, 0.5)))
    net, tasks = ground(LinearRegression(), LinearModel())
    with pytest.raises(LossError, match="cross-entropy over classes"):
        LossCorrection(base=DESCENT).init(net, *coordinates(net.module), tasks, Rng(0))
    with pytest.raises(SettingsError, match="one task"):
        run(LossCorrection(base=DESCENT), Blobs(angles=(0.0, 1.0)))


@pytest.mark.parametrize("correction", ["forward", "backward"])
def test_a_class_that_is_not_there_is_taken_for_no_other(correction: Any, tmp_path: Path) -> None:
    """Of five classes two are there. The surest example of an absent one is one of these, and so was its row of T.

    Forward correction then answered with the absent class, and backward correction found T without an inverse.
    """
    generator = np.random.default_rng(0)
    y = np.array([1, 4])[generator.integers(0, 2, 200)]
    np.savez(tmp_path / "a.npz", x_train=0.3 * generator.normal(size=(200, 3)) + y[:, None] - 2.5, y_train=y)
    base = ArraysProblem(path=str(tmp_path / "a.npz"))
    problem = NoisyLabels(base=base, noise="asymmetric", pairs=((1, 4), (4, 1)), rate=0.2)
    solution, _ = run(LossCorrection(base=DESCENT, correction=correction), problem)
    true = solution.task.splits["true_labels"]
    assert isinstance(true, Arrays)
    assert float((predicted_probabilities(solution).argmax(1) == true.y).double().mean()) > 0.95


def test_targets_that_are_no_classes_are_refused_before_the_first_stage() -> None:
    net, tasks = ground(NOISY, MODEL)
    train = tasks[0].splits["train"]
    whole = train.take(torch.arange(len(train)))
    shares = Arrays(x=whole.x, y=torch.eye(3)[whole.y], index=whole.index)
    soft = (replace(tasks[0], splits={"train": shares}),)
    with pytest.raises(DataError, match=r"one class an example was required to estimate .*float32"):
        LossCorrection(base=DESCENT).init(net, *coordinates(net.module), soft, Rng(0))
