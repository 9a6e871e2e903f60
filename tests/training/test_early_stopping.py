from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.runs import bits, ground, saw
from vallis.core.errors import DataError, SettingsError
from vallis.core.functional import call
from vallis.core.own import coordinates
from vallis.core.rng import Rng
from vallis.core.types import Solution, StepInfo
from vallis.problems.noisy_labels import NoisyLabels
from vallis.testing.conformance.trainings import CHECKS
from vallis.testing.toys.models import TinyConvnet
from vallis.testing.toys.problems import Bars, Blobs
from vallis.training.early_stopping import EarlyStopping
from vallis.training.gradient_descent import GradientDescent
from vallis.training.iterative_pruning import IterativePruning
from vallis.training.loss_correction import LossCorrection

DESCENT = GradientDescent(optimizer="Adam", learning_rate=0.1, batch_size=8, max_steps=60)
NOISY = NoisyLabels(base=Blobs(num_train=60, num_classes=3), rate=0.3)


def followed(
    part: EarlyStopping, problem: Any = NOISY, model: Any = None
) -> tuple[Any, list[StepInfo], list[Solution]]:
    net, tasks = ground(problem, model)
    state = part.init(net, *coordinates(net.module), tasks, Rng(0).child("training"))
    infos, inner = [], [part.base.solution(state.inner)]
    while not (infos and infos[-1].done):
        infos.append(part.step(state))
        inner.append(part.base.solution(state.inner))
    return state, infos, inner


def validation_loss(solution: Solution, state: Any) -> float:
    data = state.split.splits["validation"]
    (batch,) = data
    with torch.no_grad():
        outputs = call(solution.net.module.eval(), solution.params, solution.buffers, batch.x)
    return float(solution.task.loss.mean(outputs, batch.y))


def test_it_keeps_the_best_of_all_looks() -> None:
    """By going through every look again."""
    part = EarlyStopping(base=DESCENT, check_every=5, validation_fraction=0.3)
    state, infos, inner = followed(part)
    losses = {step: validation_loss(inner[step], state) for step in range(5, 61, 5)}
    best = min(losses, key=lambda step: losses[step])
    assert 5 < best < 60  # else this test could not tell the best from an end
    found = part.solution(state)
    assert bits(replace(found, step=0)) == bits(inner[best])
    assert state.loss == pytest.approx(losses[best], abs=1e-6)
    assert found.step == infos[-1].step == 60
    assert infos[-1].reason == "max_steps"
    assert found.tasks == state.tasks


def test_what_is_held_out_is_never_learned() -> None:
    state, infos, _ = followed(EarlyStopping(base=DESCENT))
    held, learned = (state.split.splits[name].index for name in ("validation", "train"))
    seen = torch.cat([info.index for info in infos if info.index is not None])
    assert not bool(torch.isin(seen, held).any())
    assert torch.cat([held, learned]).sort().values.equal(state.tasks[0].splits["train"].index.sort().values)
    assert len(held) == 6


def test_patience_ends_it() -> None:
    impatient = EarlyStopping(base=DESCENT, check_every=5, patience=2)
    state, infos, _ = followed(impatient)
    _, full, _ = followed(EarlyStopping(base=DESCENT, check_every=5))
    assert infos[-1].reason == "validation_loss"
    assert len(infos) < len(full)
    assert saw(infos)[:-1] == saw(full)[: len(infos) - 1]
    assert state.waited == 2


def test_it_conforms_around_gradient_descent() -> None:
    part = EarlyStopping(base=GradientDescent.tiny(), check_every=2, validation_fraction=0.2, patience=3)
    for check in CHECKS.values():
        check(part)


def test_running_statistics_are_kept_too() -> None:
    part = EarlyStopping(base=GradientDescent(learning_rate=0.5, batch_size=None, max_steps=12), check_every=1)
    state, _, inner = followed(part, Bars(), TinyConvnet())
    losses = [validation_loss(found, state) for found in inner[1:]]
    assert bits(replace(part.solution(state), step=0)) == bits(inner[1 + losses.index(min(losses))])


def test_impossible_settings_are_refused() -> None:
    for settings in ({"validation_fraction": 0.0}, {"validation_fraction": 1.0}, {"check_every": 0}, {"patience": 0}):
        with pytest.raises(SettingsError, match="early_stopping"):
            EarlyStopping(base=DESCENT, **settings)
    net, tasks = ground(Blobs(num_train=3))
    with pytest.raises(DataError, match="to hold some out"):
        EarlyStopping(base=DESCENT).init(net, *coordinates(net.module), tasks, Rng(0))


def test_a_base_that_begins_anew_is_refused() -> None:
    """The best weights of all stages would be those that explain noisy labels best, or those that are not pruned."""
    net, tasks = ground(Blobs())
    for base in (LossCorrection(base=DESCENT), IterativePruning(base=DESCENT, num_rounds=1)):
        part = EarlyStopping(base=base)
        state = part.init(net, *coordinates(net.module), tasks, Rng(0))
        with pytest.raises(SettingsError, match="a base of one stage was required"):
            part.step(state)
