"""Between outcomes and what the store holds: strict JSON and tensors, without losing a bit.

JSON has no word for NaN and the infinities, so a float that is not finite is written ``{"$float": "nan"}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vallis.core.errors import StoreError
from vallis.core.types import Array, Estimate, Failed, NotApplicable, Note, Outcome, Result

Tensors = dict[str, torch.Tensor]


def to_json(value: Any) -> Any:
    """Plain values as strict JSON; numpy and torch numbers become Python's.

    Raises:
        TypeError: something in it is no plain value.
    """
    if isinstance(value, (np.generic, torch.Tensor)):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) or key.startswith("$") for key in value):
            raise TypeError(f"a mapping with words as keys was required, one with {sorted(map(str, value))} came")
        return {key: to_json(item) for key, item in value.items()}
    raise TypeError(f"a plain value was required, a {type(value).__name__} came: use numbers, text, lists and mappings")


def from_json(value: Any) -> Any:
    """What `to_json` was given, with lists in place of tuples."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        return float(value["$float"]) if "$float" in value else {key: from_json(item) for key, item in value.items()}
    return value


def encode(outcome: Outcome) -> tuple[dict[str, Any], Tensors]:
    """An outcome as plain values, which `to_json` makes strict JSON of, and float64 tensors.

    Raises:
        TypeError: it is no outcome, or holds something else than estimates and arrays.
    """
    if isinstance(outcome, NotApplicable):
        return {"status": "not_applicable", "note": _note(outcome.note)}, {}
    if isinstance(outcome, Failed):
        return {"status": "failed", "error": outcome.error, "message": outcome.message}, {}
    if not isinstance(outcome, Result):
        raise TypeError(f"a Result, NotApplicable or Failed was required, a {type(outcome).__name__} came")
    tensors: Tensors = {}
    values = {key: _encode_value(key, value, tensors) for key, value in outcome.values.items()}
    return {"status": "ok", "values": values, "notes": [_note(note) for note in outcome.notes]}, tensors


def decode(values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Outcome:
    """The outcome that `encode` was given.

    Raises:
        StoreError: the record holds something else.
    """
    try:
        if values["status"] == "not_applicable":
            return NotApplicable(note=Note(**values["note"]))
        if values["status"] == "failed":
            return Failed(error=values["error"], message=values["message"])
        found = {key: _decode_value(key, value, tensors) for key, value in values["values"].items()}
        return Result(values=found, notes=tuple(Note(**note) for note in values["notes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"a stored outcome was required, something else came ({error!r}): measure it again") from error


def _note(note: Note) -> dict[str, str]:
    return {"code": note.code, "text": note.text}


def _encode_value(key: str, value: Estimate | Array, tensors: Tensors) -> dict[str, Any]:
    if isinstance(value, Estimate):
        stderr = None if value.stderr is None else float(value.stderr)
        number = {"value": float(value.value), "stderr": stderr, "n": int(value.n)}
        return {**number, "unit": value.unit, "method": value.method}
    if not isinstance(value, Array):
        raise TypeError(f"{key} must be an Estimate or an Array, a {type(value).__name__} came")
    tensors[f"{key}/data"] = _float64(value.data)
    words: dict[str, list[str]] = {}
    for dim, coords in value.coords.items():
        if np.asarray(coords).dtype.kind in "UO":  # names of layers, classes ...
            words[dim] = [str(word) for word in np.asarray(coords).tolist()]
        else:
            tensors[f"{key}/coords/{dim}"] = _float64(coords)
    encoded: dict[str, Any] = {"dims": list(value.dims), "unit": value.unit, "coords": list(value.coords)}
    return {**encoded, "words": words} if words else encoded


def _decode_value(key: str, value: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Estimate | Array:
    if "dims" not in value:
        return Estimate(**value)
    words = {dim: np.array(held) for dim, held in value.get("words", {}).items()}
    coords = {dim: words[dim] if dim in words else tensors[f"{key}/coords/{dim}"].numpy() for dim in value["coords"]}
    return Array(data=tensors[f"{key}/data"].numpy(), dims=tuple(value["dims"]), unit=value["unit"], coords=coords)


def _float64(data: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(data, dtype=np.float64, order="C"))
