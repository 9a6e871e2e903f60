from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.types import Array, Estimate, NotApplicable, Note, Result
from vallis.testing.conformance.parts import Broken
from vallis.testing.conformance.results import differing, must_be_shown, must_be_sound, numbers

GOOD = {
    "error": Estimate(value=0.5, stderr=0.1, n=3, method="by hand"),
    "curve": Array(data=np.zeros((2, 3)), dims=("a", "b"), coords={"b": np.arange(3.0)}),
}
FIGURE = Figure(name="f", title="F", x=Axis(label="x"), y=Axis(label="y"), marks=(Mark(kind="line"),))


def test_good_results_pass() -> None:
    must_be_sound("it", Result(values=GOOD))
    must_be_sound("it", NotApplicable(note=Note(code="needs_trait", text="It is not so.")))
    odd = {**GOOD, "error": Estimate(value=float("nan"), method="by hand")}
    must_be_sound("it", Result(values=odd, notes=(Note(code="diverged", text="It has diverged."),)))


@pytest.mark.parametrize(
    "value",
    [
        Estimate(value=float("nan"), method="m"),
        Estimate(value=1.0, stderr=-1.0, method="m"),
        Estimate(value=1.0, n=0, method="m"),
        Estimate(value=1.0),
        Estimate(value=1.0, unit="", method="m"),
        Estimate(value=np.float64(1.0), method="m"),
        Array(data=np.zeros(3), dims=()),
        Array(data=np.zeros(3, dtype=np.float32), dims=("a",)),  # type: ignore[arg-type]
        Array(data=np.zeros((2, 2)), dims=("a", "a")),
        Array(data=np.zeros(3), dims=("a",), coords={"a": np.zeros(2)}),
        Array(data=np.zeros(3), dims=("a",), coords={"b": np.zeros(3)}),
        Array(data=np.full(3, np.inf), dims=("a",)),
    ],
)
def test_odd_values_are_noticed(value: Any) -> None:
    with pytest.raises(Broken):
        must_be_sound("it", Result(values={"value": value}))


@pytest.mark.parametrize(
    "outcome",
    [
        Result(values={}),
        Result(values={"Not A Name": GOOD["error"]}),
        Result(values=GOOD, notes=(Note(code="", text="It is."),)),
        Result(values=GOOD, notes=(Note(code="odd", text="no sentence"),)),
        "a string",
    ],
)
def test_odd_outcomes_are_noticed(outcome: Any) -> None:
    with pytest.raises((Broken, AttributeError)):
        must_be_sound("it", outcome)


@pytest.mark.parametrize(
    ("figures", "reading"),
    [
        ((FIGURE, FIGURE), "It is so."),
        ((), "no sentence"),
        ((Figure(name="f", title="", x=FIGURE.x, y=FIGURE.y, marks=FIGURE.marks),), "It is so."),
        ((Figure(name="f", title="F", x=FIGURE.x, y=FIGURE.y, marks=()),), "It is so."),
    ],
)
def test_odd_pictures_are_noticed(figures: Any, reading: str) -> None:
    must_be_shown("it", (FIGURE,), "It is so.")
    with pytest.raises(Broken):
        must_be_shown("it", figures, reading)


def test_numbers_that_differ() -> None:
    one = numbers(Result(values=GOOD))
    assert set(one) == {"error", "curve"}
    assert differing(one, one, rtol=0.0, atol=0.0) == []
    other = {**one, "error": one["error"] + 1e-4}
    assert differing(one, other, rtol=1e-3) == []
    assert differing(one, other, rtol=1e-5) == ["error"]
    assert differing(one, {"error": one["error"]}, rtol=1.0) == ["curve"]
    nan = {"error": np.asarray(np.nan)}
    assert differing(nan, nan, rtol=0.0) == []
    assert differing(nan, one, rtol=1.0) == ["curve", "error"]
    assert differing({"a": np.zeros(2)}, {"a": np.zeros(3)}, rtol=1.0) == ["a"]
