from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from vallis.core.types import Outcome, StepInfo
from vallis.testing.awkward.forgetting_counts import ForgettingCounts
from vallis.testing.awkward.loss_barrier import LossBarrier
from vallis.testing.conformance import watchers
from vallis.testing.conformance.parts import Broken, NotTested


@pytest.mark.parametrize("check", watchers.CHECKS)
def test_forgetting_counts_conform(check: str) -> None:
    watchers.CHECKS[check](ForgettingCounts())


def test_others_are_left_alone() -> None:
    for check in watchers.CHECKS.values():
        with pytest.raises(NotTested):
            check(LossBarrier())


@dataclass(frozen=True, kw_only=True)
class Forgetful(ForgettingCounts):
    """Keeps a part of its memory where no checkpoint sees it."""

    def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
        seen = getattr(type(self), "seen", 0)
        type(self).seen = seen + 1  # type: ignore[attr-defined]
        super().watch(memory, info)
        memory["forgotten"][0] = type(self).seen  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Meddling(ForgettingCounts):
    """Changes what it is shown."""

    def watch(self, memory: dict[str, Any], info: StepInfo) -> None:
        super().watch(memory, info)
        if info.losses is not None:
            info.losses.mul_(2)


@dataclass(frozen=True, kw_only=True)
class Stubborn(ForgettingCounts):
    """Has an answer only when it has seen something."""

    def conclude(self, memory: Mapping[str, Any]) -> Outcome:
        if not memory["watched"]:
            return None  # type: ignore[return-value]
        return super().conclude(memory)


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (Forgetful(), "memory_survives_an_interruption"),
        (Meddling(), "answers_are_sound"),
        (Stubborn(), "nothing_seen_is_an_answer"),
    ],
)
def test_what_is_wrong_is_noticed(part: Any, check: str) -> None:
    watchers.watched.cache_clear()
    with pytest.raises(Broken):
        watchers.CHECKS[check](part)
    watchers.watched.cache_clear()
