"""What every measurement must do: the same answer to the same question, with honest error bars, touching nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vallis.core.protocols import PATHS, Measurement, MeasuresMany
from vallis.core.rng import Rng
from vallis.core.spec import name_of
from vallis.core.types import Estimate, Outcome, Result, Source
from vallis.testing.conformance import subjects
from vallis.testing.conformance.models import TRAITS
from vallis.testing.conformance.parts import Broken, Check, NotTested, is_quick, require, untouched_surroundings
from vallis.testing.conformance.results import Numbers, differing, must_be_shown, must_be_sound, numbers
from vallis.testing.symmetries import SYMMETRIES

TAKES = ("solution", *sorted(PATHS), "pair", "training")
ALL = ""  # stands for all values
_RNG = Rng(0).child("measure")
_STREAMS = 8  # draws of the random directions when a law is tried
_STREAMS_FOR_BARS = 16


def is_a_measurement(part: Any) -> None:
    """It offers what the protocol asks for, in words that are known."""
    _no_watcher(part)
    require(isinstance(part, Measurement), f"{name_of(part)} must have what the protocol Measurement lists")
    require(part.takes in TAKES, f"takes must be one of {TAKES}, {part.takes!r} came")
    require(part.needs <= TRAITS, f"needs must be traits, {sorted(part.needs - TRAITS)} came")
    for key, names in _declared(part).items():
        require(names <= set(SYMMETRIES), f"invariances{f' of {key}' * bool(key)} must be among {sorted(SYMMETRIES)}")
    require(all(isinstance(source, Source) for source in part.sources), "sources must be of type Source")
    for panel, settings in part.panels.items():
        type(part)(**settings)
        require(panel != "", "a panel must have a name")


def answers_are_sound(part: Any) -> None:
    """On every toy the values are labelled and finite, can be shown, and touch neither the toy nor anything global."""
    for toy, subject in _tried(part):
        what = f"{name_of(part)} on {toy}"
        before = subjects.everything(subject)
        with untouched_surroundings(what):
            outcome = part.measure(subject, _RNG)
        require(subjects.everything(subject) == before, f"{what} must leave the solution as it is")
        must_be_sound(what, outcome)
        if isinstance(outcome, Result):
            must_be_shown(what, part.figures(outcome), part.reading(outcome))


def same_stream_same_bits(part: Any) -> None:
    """Asked twice, it answers the same."""
    for toy, subject in _tried(part):
        one, other = (_found(part.measure(subject, _RNG)) for _ in range(2))
        differ = differing(one, other, rtol=0.0, atol=0.0)
        require(not differ, f"{name_of(part)} on {toy} must answer the same for the same stream, not so {differ}")


def batches_do_not_matter(part: Any) -> None:
    """The same examples in ragged batches of seven have the same answer."""
    for toy, subject in _tried(part):
        one = _found(part.measure(subject, _RNG))
        other = _found(part.measure(subjects.in_other_batches(subject, 7), _RNG))
        differ = differing(one, other, rtol=1e-5)
        require(not differ, f"{name_of(part)} on {toy} must not depend on how examples are batched, but {differ} does")


def declared_invariances_hold(part: Any) -> None:
    """Under each symmetry that it names for a value, that value stays, up to the spread between random streams."""
    _no_watcher(part)
    declared = _declared(part)
    symmetries = sorted(frozenset().union(*declared.values()))
    if not symmetries:
        raise NotTested("it declares no invariance")
    seen: set[str] = set()
    for name in symmetries:
        for toy, subject, changed in _changed(part, name):
            before, after = (_draws(part, found) for found in (subject, changed))
            stay = [key for key in before if name in declared.get(key, declared.get(ALL, frozenset()))]
            differ = [key for key in stay if key not in after or not _alike(before[key], after[key])]
            require(not differ, f"{name_of(part)} on {toy} must not change under {name}, as it declares: {differ} does")
            seen.update(stay)
    missing = sorted(key for key, names in declared.items() if key != ALL and names and key not in seen)
    require(not missing, f"{name_of(part)} must find what it declares invariances of, {missing} came on no toy")


def undeclared_invariances_are_broken(part: Any) -> None:
    """For each symmetry that it does not name for a value, there is a toy on which that value sees the change."""
    _no_watcher(part)
    tried = False
    for key, declared in _declared(part).items():
        for name in sorted(set(SYMMETRIES) - declared):
            seen = []
            for _, subject, changed in _changed(part, name):
                one, other = (_found(part.measure(found, _RNG)) for found in (subject, changed))
                differ = differing(one, other, rtol=1e-5)
                if key == ALL or key in one:
                    seen.append(bool(differ) if key == ALL else key in differ)
            tried = tried or bool(seen)
            who = f"{name_of(part)}{f': {key}' * bool(key)}"
            require(not seen or any(seen), f"{who} must declare {name}: it changes under it on no toy")
    if not tried:
        raise NotTested("no toy that it can be asked of has a symmetry that it does not declare")


def error_bars_are_honest(part: Any) -> None:
    """Between random streams a value scatters no more than its error bar says; an exact one does not at all."""
    said = False
    for toy, subject in _tried(part):
        bars = _bars(part, subject, 2)
        if any(bar.stderr for drawn in bars.values() for bar in drawn):
            bars = _bars(part, subject, _STREAMS_FOR_BARS)
        said = said or bool(bars)
        for key, drawn in bars.items():
            _must_be_honest(f"{name_of(part)} on {toy}: {key}", drawn)
    if not said:
        raise NotTested("it declares no error bar")


def stages_do_not_mix(part: Any) -> None:
    """Of a training that began anew on its way, a snapshot from before changes no value."""
    _no_watcher(part)
    if part.takes not in PATHS:
        raise NotTested("it takes no path")
    for toy, subject in _tried(part):
        path = subjects.after_another_stage(subject)
        one, other = (_found(part.measure(found, _RNG)) for found in (path[1:], path))
        differ = differing(one, other, rtol=0.0, atol=0.0)
        require(not differ, f"{name_of(part)} on {toy} must leave out other stages than the last, not so {differ}")


def many_are_as_one(part: Any) -> None:
    """Of several networks at once it says what it says of each, and touches none."""
    _no_watcher(part)
    alone = part
    if part.takes != "solution" or not isinstance(part, MeasuresMany):
        raise NotTested("it looks at one solution at a time")
    for toy, found in subjects.companies().items():
        if not all(subjects.fits(alone.needs, subject) for subject in found):
            continue
        what = f"{name_of(part)} on several of {toy}"
        before = [subjects.everything(subject) for subject in found]
        with untouched_surroundings(what):
            many = [_found(outcome) for outcome in part.measure_many(found, _RNG)]
        require([subjects.everything(each) for each in found] == before, f"{what} must leave the solutions as they are")
        require(len(many) == len(found), f"{what} must say something of each")
        for subject, together in zip(found, many, strict=True):
            differ = differing(_found(alone.measure(subject, _RNG)), together, rtol=1e-5)
            require(not differ, f"{what} must say what it says of each alone, not so {differ}")


def is_quick_enough(part: Any) -> None:
    """The tiny settings answer in under a second on every toy."""
    for toy, subject in _tried(part):
        is_quick(f"{name_of(part)} on {toy}", lambda subject=subject: part.measure(subject, _RNG))  # type: ignore[misc]


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        is_a_measurement,
        answers_are_sound,
        same_stream_same_bits,
        batches_do_not_matter,
        declared_invariances_hold,
        undeclared_invariances_are_broken,
        error_bars_are_honest,
        stages_do_not_mix,
        many_are_as_one,
        is_quick_enough,
    )
}


def _tried(part: Any) -> Iterator[tuple[str, Any]]:
    """The toys that the measurement can be asked of.

    Raises:
        NotTested: there is none.
    """
    _no_watcher(part)
    found = [(toy, s) for toy, s in subjects.subjects(part.takes).items() if subjects.fits(part.needs, s)]
    if not found:
        raise NotTested(f"no toy has the traits that it needs: {', '.join(sorted(part.needs))}")
    yield from found


def _declared(part: Any) -> Mapping[str, frozenset[str]]:
    """The invariances of each value that has some of its own, or of all of them."""
    found = part.invariances
    return found if isinstance(found, Mapping) else {ALL: found}


def _no_watcher(part: Any) -> None:
    if part.takes == "training":
        raise NotTested("it watches training, and is tested as a watcher")


def _changed(part: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    for toy, subject in _tried(part):
        changed = subjects.changed(name, part.takes, subject)
        if changed is not None and subjects.fits(part.needs, changed):
            yield toy, subject, changed


def _found(outcome: Outcome) -> Numbers:
    return numbers(outcome) if isinstance(outcome, Result) else {}


def _draws(part: Any, subject: Any) -> Mapping[str, Any]:
    """Each value of the result in all random streams, ``(streams, ...)``; those of changing shape are left out."""
    draws = [_found(part.measure(subject, _RNG.child(stream))) for stream in range(_STREAMS)]
    keys = [key for key in draws[0] if len({draw[key].shape for draw in draws if key in draw}) == 1]
    return {key: np.stack([draw[key] for draw in draws]) for key in keys if all(key in draw for draw in draws)}


def _bars(part: Any, subject: Any, streams: int) -> Mapping[str, list[Estimate]]:
    """The estimates that have an error bar in every one of so many random streams."""
    draws = [part.measure(subject, _RNG.child(stream)) for stream in range(streams)]
    if not all(isinstance(draw, Result) for draw in draws):
        return {}
    found = {key: [draw.values.get(key) for draw in draws] for key in draws[0].values}
    kept = {key: [v for v in drawn if isinstance(v, Estimate) and v.stderr is not None] for key, drawn in found.items()}
    return {key: drawn for key, drawn in kept.items() if len(drawn) == streams}


def _alike(one: Any, other: Any) -> bool:
    if one.shape != other.shape:
        return False
    noise = max(float(np.nanmax(found.std(0), initial=0.0)) for found in (one, other))
    largest = float(np.nanmax(np.abs([one, other]), initial=0.0))
    allowed = 1e-8 + 1e-5 * largest + 6 * noise * (2 / _STREAMS) ** 0.5
    return bool(np.allclose(one.mean(0), other.mean(0), rtol=0, atol=allowed, equal_nan=True))


def _must_be_honest(where: str, bars: list[Estimate]) -> None:
    values = np.array([bar.value for bar in bars])
    claimed = float(np.sqrt(np.mean([bar.stderr**2 for bar in bars if bar.stderr is not None])))
    scatter = float(values.std(ddof=1))
    rounding = 1e-8 + 1e-6 * float(np.abs(values).max())
    # Sixteen draws scatter by more than 2.5 times their standard deviation once in 10^13.
    if scatter > 2.5 * claimed + rounding:
        raise Broken(f"{where} must scatter by at most its error bar {claimed:.3g}, it does by {scatter:.3g}")
