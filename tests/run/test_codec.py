from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vallis.core.errors import StoreError
from vallis.core.types import Array, Estimate, Failed, NotApplicable, Note, Outcome, Result
from vallis.run.codec import decode, encode, from_json, to_json

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: not key.startswith("$")), inner),
)


def through(outcome: Outcome) -> Outcome:
    """Out into text and in again, as the store does it."""
    values, tensors = encode(outcome)
    return decode(from_json(json.loads(json.dumps(to_json(values), allow_nan=False))), tensors)


@given(plain)
def test_plain_values_survive_strict_json_bit_for_bit(value: Any) -> None:
    text = json.dumps(to_json(value), allow_nan=False)
    # repr tells 0.0 from -0.0 and True from 1, and NaN from nothing.
    assert repr(from_json(json.loads(text))) == repr(value)


@given(st.floats(), st.none() | st.floats(), st.integers(0, 10**9))
def test_an_estimate_survives(value: float, stderr: float | None, n: int) -> None:
    estimate = Estimate(value=value, stderr=stderr, n=n, unit="nats/weight^2", method="by hand")
    assert repr(through(Result(values={"x": estimate}))) == repr(Result(values={"x": estimate}))


def test_an_array_survives_with_its_coordinates_and_their_order() -> None:
    data = np.array([[math.pi, -0.0, math.nan], [math.inf, 5e-324, 1 / 3]])
    coords = {"b": np.array([0.1, 0.2, 0.3]), "a": np.array(["conv 1", "fc/2"])}
    found = through(Result(values={"grid": Array(data=data, dims=("a", "b"), unit="nats", coords=coords)}))
    assert isinstance(found, Result)
    array = found.array("grid")
    assert array.data.dtype == np.float64
    assert array.data.tobytes() == data.tobytes()
    assert (array.dims, array.unit, list(array.coords)) == (("a", "b"), "nats", ["b", "a"])
    assert array.coords["a"].tolist() == ["conv 1", "fc/2"]
    assert array.coords["b"].tobytes() == coords["b"].tobytes()


def test_arrays_are_copied_and_may_be_views_of_any_type() -> None:
    data = np.arange(12, dtype=np.int32).reshape(3, 4).T
    _, tensors = encode(Result(values={"x": Array(data=data, dims=("a", "b"))}))  # type: ignore[arg-type]
    assert torch.equal(tensors["x/data"], torch.tensor(data.tolist(), dtype=torch.float64))


def test_the_order_of_values_and_notes_survives() -> None:
    values = {name: Estimate(value=1.0) for name in ("z", "a", "m")}
    notes = (Note(code="b", text="B"), Note(code="a", text="A"))
    found = through(Result(values=values, notes=notes))
    assert isinstance(found, Result)
    assert list(found.values) == ["z", "a", "m"]
    assert found.notes == notes


@pytest.mark.parametrize(
    "outcome", [NotApplicable(note=Note(code="needs_trait", text="So.")), Failed(error="KeyError", message="'x'")]
)
def test_what_is_no_result_survives(outcome: Outcome) -> None:
    assert through(outcome) == outcome


@pytest.mark.parametrize("wrong", [None, {"x": 1}, Result(values={"x": 1.0})])  # type: ignore[dict-item]
def test_what_is_no_outcome_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="came"):
        encode(wrong)


@pytest.mark.parametrize("wrong", [{1: 2}, {"$float": "nan"}, object(), {"x": [b"bytes"]}])
def test_what_json_cannot_hold_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="came"):
        to_json(wrong)


def test_numbers_of_numpy_and_torch_are_plain() -> None:
    value = to_json({"a": np.float64(0.1), "b": np.int64(3), "c": torch.tensor(2.0), "d": np.bool_(True)})
    assert value == {"a": 0.1, "b": 3, "c": 2.0, "d": True}
    assert [type(item) for item in value.values()] == [float, int, float, bool]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"status": "ok", "values": {"x": {"value": 1.0, "colour": "red"}}, "notes": []},
        {"status": "ok", "values": {"x": {"dims": ["a"], "unit": "1", "coords": []}}, "notes": []},
        {"status": "not_applicable", "note": {}},
    ],
)
def test_a_strange_record_is_an_error_of_the_store(values: Any) -> None:
    with pytest.raises(StoreError, match="measure it again"):
        decode(values, {})
