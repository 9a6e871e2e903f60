from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from vallis.core.figures import Figure
from vallis.core.types import Claim, Job, Row, Source, Verdict
from vallis.testing.awkward.forgetting_counts import ForgettingCounts
from vallis.testing.awkward.reinforced_messages import ReinforcedMessages
from vallis.testing.conformance import studies
from vallis.testing.conformance.parts import Broken
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs


@dataclass(frozen=True, kw_only=True)
class Small:
    """A study of one claim."""

    version: ClassVar[int] = 1
    source: ClassVar[Source] = Source(title="T", authors="A", year=2026)

    def jobs(self, scale: str) -> Sequence[Job]:
        return [
            Job(
                problem=Blobs(),
                model=TinyMlp(),
                training=ReinforcedMessages(),
                measurements=(ForgettingCounts(),),  # type: ignore[arg-type]
                seed=seed,
                tags={"scale": scale},
            )
            for seed in range(2)
        ]

    def claims(self) -> Sequence[Claim]:
        return [Claim(id="one", says="It is so.", where="section 1", test=self.rule)]

    def rule(self, rows: Sequence[Row]) -> Verdict:
        return Verdict(verdict="holds" if rows else "not_run", n=len(rows))

    def figures(self, rows: Sequence[Row]) -> Sequence[Figure]:
        return ()


class Jobless(Small):
    def jobs(self, scale: str) -> Sequence[Job]:
        return [] if scale == "paper" else super().jobs(scale)


class Repeating(Small):
    def jobs(self, scale: str) -> Sequence[Job]:
        return [*super().jobs(scale), *super().jobs(scale)]


class Odd(Small):
    def jobs(self, scale: str) -> Sequence[Job]:
        return [replace(job, tags={"widths": (1, 2)}) for job in super().jobs(scale)]  # type: ignore[dict-item]


class Restless(Small):
    count: ClassVar[int] = 0

    def jobs(self, scale: str) -> Sequence[Job]:
        Restless.count += 1
        return [replace(job, seed=job.seed + 10 * Restless.count) for job in super().jobs(scale)]


class Sure(Small):
    """Knows the answer before the run."""

    def rule(self, rows: Sequence[Row]) -> Verdict:
        return Verdict(verdict="holds")


class Namesakes(Small):
    def claims(self) -> Sequence[Claim]:
        return [*super().claims(), *super().claims()]


class Placeless(Small):
    def claims(self) -> Sequence[Claim]:
        return [replace(claim, where="") for claim in super().claims()]


@pytest.mark.parametrize("check", studies.CHECKS)
def test_a_good_study_conforms(check: str) -> None:
    studies.CHECKS[check](Small())


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (Jobless(), "jobs_are_sound"),
        (Repeating(), "jobs_are_sound"),
        (Odd(), "jobs_are_sound"),
        (Restless(), "jobs_are_sound"),
        (Sure(), "claims_are_written_before_the_run"),
        (Namesakes(), "claims_are_written_before_the_run"),
        (Placeless(), "claims_are_written_before_the_run"),
        (Blobs(), "is_a_study"),
    ],
)
def test_what_is_wrong_is_noticed(part: Any, check: str) -> None:
    with pytest.raises(Broken):
        studies.CHECKS[check](part)
