from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from vallis.core.types import Packed, Solution, StepInfo
from vallis.testing.awkward.company import StackedDescent
from vallis.testing.awkward.reinforced_messages import ReinforcedMessages
from vallis.testing.conformance import trainings
from vallis.testing.conformance.parts import Broken
from vallis.training._descent_company import company_of
from vallis.training.gradient_descent import GradientDescent

SHORT: dict[str, Any] = {"max_steps": 6, "batch_size": 10, "learning_rate": 0.05}
GOOD = (
    ReinforcedMessages(max_steps=60),
    StackedDescent(max_steps=6),
    GradientDescent(momentum=0.9, **SHORT),
    GradientDescent(optimizer="Adam", schedule="cosine", **SHORT),
)


@pytest.mark.parametrize("check", trainings.CHECKS)
@pytest.mark.parametrize("part", GOOD)
def test_all_ways_to_train_conform(part: Any, check: str) -> None:
    trainings.CHECKS[check](part)


@dataclass(frozen=True, kw_only=True)
class Forgetful(GradientDescent):
    """Its momentum does not survive."""

    def pack(self, state: Any) -> Packed:
        packed = super().pack(state)
        return Packed(tensors=packed.tensors, values={**packed.values, "optimizer": {}})


@dataclass(frozen=True, kw_only=True)
class Borrowing(GradientDescent):
    """Its solutions are the weights that are being trained."""

    def solution(self, state: Any) -> Solution:
        return replace(super().solution(state), params=dict(state.params))


@dataclass(frozen=True, kw_only=True)
class Meddling(GradientDescent):
    """Trains the template of the net itself."""

    def step(self, state: Any) -> StepInfo:
        info = super().step(state)
        with torch.no_grad():
            for parameter in state.net.module.parameters():
                parameter.add_(1e-3)
        return info


@dataclass(frozen=True, kw_only=True)
class Gambling(GradientDescent):
    """Draws from the global generator."""

    def step(self, state: Any) -> StepInfo:
        torch.rand(1)
        return super().step(state)


@dataclass(frozen=True, kw_only=True)
class Drifting(GradientDescent):
    """Does not start where it is put."""

    def init(self, *given: Any) -> Any:
        state = super().init(*given)
        with torch.no_grad():
            for parameter in state.params.values():
                parameter.mul_(1.01)
        return state


@dataclass(frozen=True, kw_only=True)
class Skipping(GradientDescent):
    """Counts by two."""

    def step(self, state: Any) -> StepInfo:
        info = super().step(state)
        return replace(info, step=2 * info.step)


@dataclass(frozen=True, kw_only=True)
class Silent(GradientDescent):
    """Does not say why it is done."""

    def step(self, state: Any) -> StepInfo:
        return replace(super().step(state), reason="")


@dataclass(frozen=True, kw_only=True)
class Inventing(GradientDescent):
    """Claims to have seen what is not in the problem."""

    def step(self, state: Any) -> StepInfo:
        info = super().step(state)
        return replace(info, index=None if info.index is None else info.index + 10_000)


@dataclass(frozen=True, kw_only=True)
class Immortal(GradientDescent):
    """Never done."""

    def step(self, state: Any) -> StepInfo:
        state.done = False
        return replace(super().step(state), done=False)


@dataclass(frozen=True, kw_only=True)
class Crowding(GradientDescent):
    """In company it learns faster."""

    def company(self, state: Any) -> Any:
        return company_of(state)

    @staticmethod
    def together(members: Any) -> Any:
        return GradientDescent.together([(replace(part, learning_rate=0.5), state) for part, state in members])


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (Crowding(**SHORT), "company_changes_nothing"),
        (Forgetful(momentum=0.9, **SHORT), "resumes_bit_for_bit"),
        (Borrowing(**SHORT), "solutions_are_kept"),
        (Meddling(**SHORT), "same_seed_same_bits"),
        (Gambling(**SHORT), "same_seed_same_bits"),
        (Drifting(**SHORT), "starts_where_it_is_put"),
        (Skipping(**SHORT), "ends"),
        (Silent(**SHORT), "ends"),
        (Immortal(**SHORT), "ends"),
        (Inventing(**SHORT), "steps_tell_what_they_saw"),
    ],
)
def test_what_is_wrong_is_noticed(part: Any, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "MOST_STEPS", 30)
    trainings._grounds.cache_clear()  # the saboteurs spoil the toys
    with pytest.raises(Broken):
        trainings.CHECKS[check](part)
    trainings._grounds.cache_clear()


def test_a_training_that_takes_nothing_is_noticed() -> None:
    with pytest.raises(Broken, match="must train one of the toys"):
        trainings.is_a_training(GradientDescent(dropout=0.5, augmentation="none", options={"nesterov": True}))
