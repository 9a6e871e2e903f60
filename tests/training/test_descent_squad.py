from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.runs import begin, follow, ground
from vallis.training import _descent_squad
from vallis.training._descent_member import Member
from vallis.training._descent_squad import Squad, pace
from vallis.training.gradient_descent import GradientDescent

TRAINING = GradientDescent(learning_rate=0.1, batch_size=7, max_steps=40)


def member(training: GradientDescent = TRAINING, seed: int = 0, taken: int = 0) -> Member:
    net, tasks = ground()
    state = begin(training, net, tasks, seed)
    follow(training, state, taken)
    return Member(training, state)


def squad(size: int) -> tuple[Squad, list[Member], torch.Tensor]:
    members = [member(seed=seed) for seed in range(size)]
    values, slopes = (torch.zeros(size, len(members[0].line.flat)) for _ in range(2))
    for one, row, slope in zip(members, values, slopes, strict=True):
        one.line.lay_out(row, slope)
    return Squad(members, values, slopes), members, slopes


@pytest.mark.parametrize("how", ["feed", "batches", "apart"])
@pytest.mark.parametrize("size", [1, 3])
def test_each_sees_what_it_would_see_alone(size: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how != "feed":
        monkeypatch.setattr(_descent_squad, "kind_of", lambda _: None)
    if how == "apart":
        monkeypatch.setattr(_descent_squad.Fed, "of", staticmethod(lambda _: None))
    found, _, slopes = squad(size)
    for seed, seen in enumerate(found.look()):
        alone = member(seed=seed)
        batch = alone.state.next_batch(7)
        loss, outputs = alone.line.gradients(alone.state.task.loss, batch, None)
        assert seen.loss == float(loss)
        assert torch.equal(seen.index, batch.index)
        answers: Any = seen.answers
        assert torch.equal(answers.outputs, outputs)
        assert torch.equal(slopes[seed], alone.line.flat.grad)  # type: ignore[arg-type]


def test_who_keeps_pace() -> None:
    first = pace(member())
    assert first == pace(member(replace(TRAINING, learning_rate=0.2), seed=1))
    assert first != pace(member(replace(TRAINING, batch_size=8)))
    assert first != pace(member(taken=1))
    whole = len(member().state.data)
    assert pace(member(replace(TRAINING, batch_size=None))) == pace(member(replace(TRAINING, batch_size=whole)))
