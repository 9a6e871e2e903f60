"""What every theory must do: the same curve for the same stream, labelled and shown, touching nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vallis.core.protocols import Theory
from vallis.core.rng import Rng
from vallis.core.spec import name_of
from vallis.core.types import Result, Source
from vallis.testing.conformance.parts import Broken, Check, is_quick, require, untouched_surroundings
from vallis.testing.conformance.results import differing, must_be_shown, must_be_sound, numbers

_RNG = Rng(0).child("theory")


def is_a_theory(part: Any) -> None:
    """It offers what the protocol asks for."""
    require(isinstance(part, Theory), f"{name_of(part)} must have what the protocol Theory lists")
    require(all(isinstance(source, Source) for source in part.sources), "sources must be of type Source")


def answers_are_sound(part: Any) -> None:
    """The values are labelled and finite, can be shown, and nothing global changes."""
    with untouched_surroundings(name_of(part)):
        outcome = part.compute(_RNG)
    must_be_sound(name_of(part), outcome)
    if isinstance(outcome, Result):
        must_be_shown(name_of(part), part.figures(outcome), part.reading(outcome))


def same_stream_same_bits(part: Any) -> None:
    """Computed twice, it is the same."""
    one, other = (part.compute(_RNG) for _ in range(2))
    if not isinstance(one, Result) or not isinstance(other, Result):
        raise Broken(f"{name_of(part)} must come to a result in its tiny settings")
    differ = differing(numbers(one), numbers(other), rtol=0.0, atol=0.0)
    require(not differ, f"{name_of(part)} must be the same for the same stream, not so {differ}")


def is_quick_enough(part: Any) -> None:
    """The tiny settings compute in under a second."""
    is_quick(name_of(part), lambda: part.compute(_RNG))


CHECKS: Mapping[str, Check] = {
    check.__name__: check for check in (is_a_theory, answers_are_sound, same_stream_same_bits, is_quick_enough)
}
