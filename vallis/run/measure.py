"""Asks measurements of solutions: one that may raise, or many of which none can stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vallis.core import catalog
from vallis.core.errors import SettingsError, UsageError
from vallis.core.protocols import PATHS, Measurement
from vallis.core.rng import Rng
from vallis.core.spec import build, name_of
from vallis.core.types import Failed, NotApplicable, Note, Outcome, Result, Solution
from vallis.run.isolation import RAISED, failure, isolated
from vallis.run.ticking import ticking

_TAKES = {
    "solution": "a solution",
    "trajectory": "a sequence of solutions",
    "path_and_others": "a sequence of solutions",
    "pair": "a tuple of two solutions",
}


def measure(subject: Any, what: Measurement | str, /, **settings: Any) -> Outcome:
    """One measurement.

    Args:
        subject: a `Solution`, a sequence of them in the order of training (others may follow where the measurement
            takes a path and others), or a tuple of two, as the measurement takes.
        what: a measurement, or the name of one.
        settings: with a name, its settings.

    Raises:
        UnknownPart: no measurement has this name.
        SettingsError: a setting is unknown or of the wrong type, or settings came with a measurement that has its own.
        UsageError: the measurement takes something else than the subject.
    """
    if settings and not isinstance(what, str):
        raise SettingsError(f"settings go with a name, {name_of(what)} has its own: give them to its class")
    part = build(catalog.load("measurements", what), settings) if isinstance(what, str) else what
    if not _suits(part, subject):
        wanted = _TAKES.get(part.takes, "a training to watch")
        raise UsageError(f"{name_of(part)} takes {wanted}, a {type(subject).__name__} came: give it that")
    return _ask(part, subject)


def measure_all(
    subject: Any, parts: Iterable[Measurement], on_result: Callable[[Measurement, Outcome], None] | None = None
) -> list[tuple[Measurement, Outcome]]:
    """Many measurements of one subject; what raises becomes `Failed` and the others go on.

    Only Ctrl-C passes through. `on_result` is told of each outcome as it comes.
    """
    found: list[tuple[Measurement, Outcome]] = []
    wanted = list(parts)
    with ticking("measuring", len(wanted)) as moving:
        for part in wanted:
            moving.set_postfix_str(name_of(part), refresh=False)
            outcome = attempt(part, subject)
            found.append((part, outcome))
            moving.update(1)
            if on_result is not None:
                on_result(part, outcome)
    return found


def attempt(part: Measurement, subject: Any) -> Outcome:
    """One measurement that cannot raise: `NotApplicable` where the subject does not suit, `Failed` on an exception."""
    if not _suits(part, subject):
        text = f"{name_of(part)} takes {_TAKES.get(part.takes, 'a training to watch')}, and there is none here."
        return NotApplicable(note=Note(code=f"needs_{part.takes}", text=text))
    try:
        return _ask(part, subject)
    except RAISED as error:
        return failure(error)


def _ask(part: Measurement, subject: Any) -> Outcome:
    lacking = _lacking(part, subject)
    if lacking is not None:
        return NotApplicable(note=lacking)
    # One stream for all solutions: random directions are then the same for all models of a study, which pairs them.
    rng = Rng(0).child("measure", name_of(part))
    with isolated():
        outcome = part.measure(subject, rng)
    if not isinstance(outcome, (Result, NotApplicable, Failed)):
        raise TypeError(f"{name_of(part)} must return an Outcome, it returned a {type(outcome).__name__}")
    return outcome


def _suits(part: Measurement, subject: Any) -> bool:
    if part.takes == "solution":
        return isinstance(subject, Solution)
    if not isinstance(subject, Sequence) or not all(isinstance(item, Solution) for item in subject):
        return False
    return part.takes in PATHS or (part.takes == "pair" and len(subject) == 2)


def _lacking(part: Measurement, subject: Any) -> Note | None:
    """Why the measurement makes no sense on these solutions, if so: there are none, or the architecture is another."""
    solutions = [subject] if isinstance(subject, Solution) else list(subject)
    if not solutions:
        text = f"{name_of(part)} takes {_TAKES[part.takes]}, and an empty one came."
        return Note(code="no_solutions", text=text)
    traits = frozenset.intersection(*(solution.net.traits for solution in solutions))
    lacking = sorted(part.needs - traits)
    if not lacking:
        return None
    text = f"{name_of(part)} needs a network that is {' and '.join(lacking)}, and this one is not known to be."
    return Note(code="needs_trait", text=text)
