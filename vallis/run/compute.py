"""Computes a theory: a curve or a bound that needs no trained network."""

from __future__ import annotations

from vallis.core.protocols import Theory
from vallis.core.rng import Rng
from vallis.core.spec import name_of
from vallis.core.types import Failed, NotApplicable, Outcome, Result
from vallis.run.isolation import isolated


def compute(part: Theory, *, seed: int = 0, threads: int | None = None) -> Outcome:
    """What a theory says, with the caller's generators and thread counts as they were afterwards.

    Args:
        part: the theory.
        seed: of what it draws.
        threads: how many threads torch, numpy and scipy compute with; None keeps the caller's.

    Raises:
        UsageError: its settings or its data cannot be used.
    """
    with isolated(threads):
        outcome = part.compute(Rng(seed).child("theory", name_of(part)))
    if not isinstance(outcome, (Result, NotApplicable, Failed)):
        raise TypeError(f"{name_of(part)} must return an Outcome, it returned a {type(outcome).__name__}")
    return outcome
