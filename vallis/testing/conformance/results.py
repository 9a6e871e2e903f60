"""What every outcome must be: numbers with units, error bars and methods, figures of its own data, a reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vallis.core.figures import Figure
from vallis.core.types import Array, Estimate, Failed, NotApplicable, Outcome, Result
from vallis.testing.conformance.parts import require

Numbers = Mapping[str, NDArray[np.float64]]


def must_be_sound(what: str, outcome: Outcome) -> None:
    """An outcome is one of three; a result's values are labelled, and finite unless a note says why not.

    Raises:
        Broken: it is not.
    """
    require(isinstance(outcome, (Result, NotApplicable, Failed)), f"{what} must return an Outcome")
    for note in outcome.notes:
        require(bool(note.code) and note.code.replace("_", "").isalnum(), f"{what}: a note must have a code")
        require(note.text.endswith("."), f"{what}: the text of note {note.code} must be a sentence")
    if not isinstance(outcome, Result):
        return
    require(len(outcome.values) > 0, f"{what} must find something, or say that it is not applicable")
    for key, value in outcome.values.items():
        where = f"{what}: {key}"
        require(key.isidentifier() and key.islower(), f"{where} must be a name in lower case")
        require(value.unit != "", f'{where} must have a unit ("1" for a pure number)')
        if isinstance(value, Estimate):
            _must_be_estimate(where, value, noted=bool(outcome.notes))
        else:
            _must_be_array(where, value, noted=bool(outcome.notes))


def _must_be_estimate(where: str, value: Estimate, noted: bool) -> None:
    require(type(value.value) in (int, float), f"{where} must be a Python number, {type(value.value).__name__} came")
    require(noted or bool(np.isfinite(value.value)), f"{where} must be finite, or a note must say why it is not")
    require(value.stderr is None or value.stderr >= 0, f"{where} must have an error bar of at least 0, or None")
    require(type(value.n) is int and value.n >= 1, f"{where} must rest on at least one sample, n={value.n} came")
    require(value.method != "", f"{where} must say how it was got")


def _must_be_array(where: str, value: Array, noted: bool) -> None:
    data = value.data
    require(isinstance(data, np.ndarray) and data.dtype == np.float64, f"{where} must be a float64 array")
    require(noted or bool(np.isfinite(data).all()), f"{where} must be finite, or a note must say why it is not")
    require(len(value.dims) == data.ndim, f"{where} must name each of its {data.ndim} axes, {value.dims} came")
    require(len(set(value.dims)) == len(value.dims), f"{where} must give each axis a name of its own")
    sizes = dict(zip(value.dims, data.shape, strict=True))
    for dim, coords in value.coords.items():
        require(sizes.get(dim) == len(coords), f"{where}: the coordinates of {dim} must fit the axis")


def must_be_shown(what: str, figures: Sequence[Figure], reading: str) -> None:
    """Figures have names of their own, titles and labels; the reading is a sentence.

    Raises:
        Broken: one does not.
    """
    require(reading.strip().endswith("."), f"{what}: the reading must be a sentence, {reading!r} came")
    require(len({figure.name for figure in figures}) == len(figures), f"{what}: figures must have names of their own")
    for figure in figures:
        require(bool(figure.title and figure.x.label and figure.y.label), f"{figure.name} must have a title and labels")
        require(len(figure.marks) > 0, f"{figure.name} must show something")


def numbers(result: Result) -> Numbers:
    """All values of a result as arrays."""
    return {
        key: np.asarray(value.value if isinstance(value, Estimate) else value.data, dtype=np.float64)
        for key, value in result.values.items()
    }


def differing(one: Numbers, other: Numbers, rtol: float, atol: float = 1e-8) -> list[str]:
    """The keys whose numbers differ by more than `rtol` of their largest, or are not both there."""
    return [key for key in sorted({*one, *other}) if not _near(one.get(key), other.get(key), rtol, atol)]


def _near(one: Any, other: Any, rtol: float, atol: float) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    largest = float(np.nanmax(np.abs([one, other]), initial=0.0, where=np.isfinite([one, other])))
    return bool(np.allclose(one, other, rtol=0, atol=atol + rtol * largest, equal_nan=True))
