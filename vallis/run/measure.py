"""Asks measurements of solutions: one that may raise, or many of which none can stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vallis.core import catalog
from vallis.core.errors import SettingsError, UsageError
from vallis.core.protocols import PATHS, Measurement, MeasuresMany
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
    part = _part(what, settings)
    _must_suit(part, subject)
    return _ask(part, subject)


def measure_many(subjects: Iterable[Any], what: Measurement | str, /, **settings: Any) -> list[Outcome]:
    """One measurement of many networks, as one computation where it and their architectures allow.

    Small networks of one architecture on few examples are evaluated side by side, see
    `vallis.numerics.population.together`; examples that they share are read once in any case. The numbers are those of
    `measure` up to rounding, and what is sought until it meets a tolerance, such as eigenvalues, up to that. What
    raises becomes `Failed`, and the others go on.

    Args:
        subjects: each as `measure` takes it.
        what: a measurement, or the name of one; the same for all.
        settings: with a name, its settings.

    Returns:
        The outcomes, in the order of the subjects.

    Raises:
        UnknownPart: no measurement has this name.
        SettingsError: a setting is unknown or of the wrong type, or settings came with a measurement that has its own.
        UsageError: one of the subjects is not what the measurement takes.
    """
    part, held = _part(what, settings), list(subjects)
    for subject in held:
        _must_suit(part, subject)
    together = _together(part, held)
    with ticking("networks measured", len(held)) as moving:
        moving.update(len(together))
        found = []
        for place, subject in enumerate(held):
            known = together.get(place)
            found.append(attempt(part, subject) if known is None else known)
            moving.update(known is None)
    return found


def _together(part: Measurement, subjects: Sequence[Any]) -> dict[int, Outcome]:
    """The outcomes of those that can be measured together, by their places."""
    if part.takes != "solution" or not isinstance(part, MeasuresMany) or len(subjects) < 2:
        return {}
    able = [place for place, subject in enumerate(subjects) if _lacking(part, subject) is None]
    try:
        with isolated():
            outcomes = part.measure_many([subjects[place] for place in able], _stream(part))
        return {place: _outcome(part, each) for place, each in zip(able, outcomes, strict=True)}
    except RAISED:  # whoever it was says so when it is asked alone
        return {}


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


def _part(what: Measurement | str, settings: Mapping[str, Any]) -> Measurement:
    if settings and not isinstance(what, str):
        raise SettingsError(f"settings go with a name, {name_of(what)} has its own: give them to its class")
    found: Measurement = build(catalog.load("measurements", what), settings) if isinstance(what, str) else what
    return found


def _must_suit(part: Measurement, subject: Any) -> None:
    if not _suits(part, subject):
        wanted = _TAKES.get(part.takes, "a training to watch")
        raise UsageError(f"{name_of(part)} takes {wanted}, a {type(subject).__name__} came: give it that")


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
    with isolated():
        outcome = part.measure(subject, _stream(part))
    return _outcome(part, outcome)


def _outcome(part: Measurement, found: Any) -> Outcome:
    if not isinstance(found, (Result, NotApplicable, Failed)):
        raise TypeError(f"{name_of(part)} must return an Outcome, it returned a {type(found).__name__}")
    return found


def _stream(part: Measurement) -> Rng:
    """One for all solutions: random directions are then the same for all models of a study, which pairs them."""
    return Rng(0).child("measure", name_of(part))


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
