from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from vallis.core.rng import Rng
from vallis.core.types import Estimate, NotApplicable, Note, Outcome, Result
from vallis.testing.awkward.bayes_error import BayesError
from vallis.testing.conformance import theories
from vallis.testing.conformance.parts import Broken


@pytest.mark.parametrize("check", theories.CHECKS)
def test_the_bayes_error_conforms(check: str) -> None:
    theories.CHECKS[check](BayesError())


@dataclass(frozen=True, kw_only=True)
class Gambling(BayesError):
    """Draws from the global generator."""

    def compute(self, rng: Rng) -> Outcome:
        found = super().compute(rng)
        assert isinstance(found, Result)
        extra = Estimate(value=float(torch.rand(())), method="drawn")
        return replace(found, values={**found.values, "extra": extra})


@dataclass(frozen=True, kw_only=True)
class Mute(BayesError):
    """Says nothing."""

    def reading(self, result: Result) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class Evasive(BayesError):
    """Never comes to a result."""

    def compute(self, rng: Rng) -> Outcome:
        return NotApplicable(note=Note(code="never", text="Not today."))


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (Gambling(), "answers_are_sound"),
        (Gambling(), "same_stream_same_bits"),
        (Mute(), "answers_are_sound"),
        (Evasive(), "same_stream_same_bits"),
        (Rng(0), "is_a_theory"),
    ],
)
def test_what_is_wrong_is_noticed(part: Any, check: str) -> None:
    with pytest.raises(Broken):
        theories.CHECKS[check](part)
