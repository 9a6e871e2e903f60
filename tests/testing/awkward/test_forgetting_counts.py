"""A measurement that watches training, and keeps what it saw through an interruption."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vallis.core.answers import Told
from vallis.core.protocols import Watcher
from vallis.core.rng import Rng
from vallis.core.types import Job, NotApplicable, Packed, Result, StepInfo
from vallis.run.memory import pack, unpack
from vallis.run.train import watch
from vallis.testing.awkward.forgetting_counts import ForgettingCounts
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.training.gradient_descent import GradientDescent

WATCHER = ForgettingCounts()
HISTORY = {0: (0, 1, 1, 0, 1, 0), 1: (1, 1, 1, 1, 1, 1), 2: (0, 0, 0, 0, 0, 0), 3: (0, 0, 1, 0, 0, 0)}


def infos() -> list[StepInfo]:
    """Six epochs over four examples in batches of two, in changing order."""
    found = []
    for epoch in range(6):
        for pair in ((0, 3), (2, 1)) if epoch % 2 else ((1, 0), (3, 2)):
            right = torch.tensor([bool(HISTORY[i][epoch]) for i in pair])
            found.append(StepInfo(step=len(found) + 1, loss=0.0, index=torch.tensor(pair), answers=Told(correct=right)))
    return found


def fresh() -> dict[str, Any]:
    return WATCHER.begin(Blobs(num_train=4).build(Rng(0)))


def result(memory: dict[str, Any]) -> Result:
    outcome = WATCHER.conclude(memory)
    assert isinstance(outcome, Result)
    return outcome


def test_counts_by_hand() -> None:
    memory = fresh()
    for info in infos():
        WATCHER.watch(memory, info)
    found = result(memory)
    assert found.array("counts").data.tolist() == [2, 0, 0, 1]
    assert found.array("counts").coords["example"].tolist() == [0, 1, 2, 3]
    assert found.estimate("forgotten_fraction").value == 0.5
    assert found.estimate("never_learned_fraction").value == 0.25


@pytest.mark.parametrize("stop", range(13))
def test_its_memory_goes_through_a_checkpoint(stop: int) -> None:
    memory = fresh()
    for info in infos()[:stop]:
        WATCHER.watch(memory, info)
    _, _, memories, _ = unpack(pack(Packed(tensors={}, values={}), stop, {"it": memory}, {}))
    for info in infos()[stop:]:
        WATCHER.watch(memories["it"], info)
    assert result(memories["it"]).array("counts").data.tolist() == [2, 0, 0, 1]


def test_it_watches_a_real_training() -> None:
    assert isinstance(WATCHER, Watcher)
    training = GradientDescent(learning_rate=1.0, batch_size=12, max_steps=40)
    job = Job(problem=Blobs(distance=1.0), model=TinyMlp(), training=training, measurements=(WATCHER,))
    _, (outcome,) = watch(job)
    assert isinstance(outcome, Result)
    assert 0 < outcome.estimate("forgotten_fraction").value < 1
    assert outcome.array("counts").data.max() <= 5, "ten epochs forget an example five times at most"


def test_nothing_to_be_right_about() -> None:
    training = GradientDescent(max_steps=2)
    job = Job(problem=LinearRegression(), model=LinearModel(), training=training, measurements=(WATCHER,))
    _, (outcome,) = watch(job)
    assert isinstance(outcome, NotApplicable)
