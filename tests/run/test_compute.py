from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from vallis.core.rng import Rng
from vallis.core.types import Estimate, Result
from vallis.run.compute import compute
from vallis.theory.memorizing_network import MemorizingNetwork


@dataclass(frozen=True, kw_only=True)
class Careless:
    """Draws from the global generator, and may return no outcome."""

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Any, ...]] = ()

    answers: bool = True

    def compute(self, rng: Rng) -> Any:
        torch.manual_seed(3)
        torch.set_default_dtype(torch.float64)
        return Result(values={"it": Estimate(value=torch.rand(()).item(), n=1, method="drawn")}) if self.answers else 3

    def figures(self, result: Result) -> tuple[Any, ...]:
        return ()

    def reading(self, result: Result) -> str:
        return "It."


def test_the_seed_decides_and_nothing_else_is_touched() -> None:
    state, part = torch.random.get_rng_state(), MemorizingNetwork.tiny()
    once, again, other = compute(part), compute(part), compute(part, seed=1)
    assert all(isinstance(found, Result) for found in (once, again, other))
    conditions = [float(found.estimate("largest_condition").value) for found in (once, again, other)]  # type: ignore[union-attr]
    assert conditions[0] == conditions[1] != conditions[2]
    compute(Careless())
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_default_dtype() == torch.float32


def test_what_is_no_outcome_is_said() -> None:
    with pytest.raises(TypeError, match="must return an Outcome, it returned a int"):
        compute(Careless(answers=False))
