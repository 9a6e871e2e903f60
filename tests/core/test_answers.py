"""Answers that are there already, and what a step shows of them."""

from __future__ import annotations

import torch

from vallis.core.answers import Told
from vallis.core.types import StepInfo


def test_a_step_shows_the_answers_that_it_carries() -> None:
    told = Told(losses=torch.tensor([1.0, 2.0]), correct=torch.tensor([True, False]))
    info = StepInfo(step=1, loss=1.5, index=torch.tensor([4, 2]), answers=told)
    assert info.losses is told.losses and info.correct is told.correct
    assert told.scores is None and told.targets is None


def test_a_step_without_answers_shows_none() -> None:
    info = StepInfo(step=1, loss=1.5)
    assert info.answers is None and info.losses is None and info.correct is None
