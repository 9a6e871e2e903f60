"""The results for machines: ``report.json`` with its arrays, and ``claims.json`` and ``table.csv`` of a study."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vallis.core import files
from vallis.core.types import Array, Claim, Estimate, Note, Result, Row, Verdict
from vallis.report import prose
from vallis.report.section import Section, status

SCHEMA = 1
COLUMNS = ("seed", "measurement", "key", "value", "stderr", "n", "unit", "method", "status", "note")
_NUMERIC = {"seed": int, "value": float, "stderr": float, "n": int}


def write_results(out: Path, facts: Mapping[str, Any], sections: Sequence[Section], *, vallis_version: str) -> Path:
    """Writes ``report.json``, and before it the arrays that it names.

    Raises:
        OutputError: the folder cannot be written.
    """
    results = {}
    for section in sections:
        values, notes = _values(out, section)
        said = [{"code": note.code, "text": note.text} for note in (*section.notes, *notes)]
        results[section.name] = {"status": section.status, "values": values, "notes": said}
    named = {"problem": None, "model": None, "parameters": None, "digest": None, **facts}
    return files.write_json(
        out / "report.json",
        {"schema": SCHEMA, "vallis": vallis_version, "solution": plain(named), "results": results},
    )


def array_files(section: Section) -> dict[str, str]:
    """Where each array of a section lies, relative to the report; its coordinates lie beside it."""
    taken: set[str] = set()
    values = section.outcome.values if isinstance(section.outcome, Result) else {}
    keys = [key for key, value in values.items() if isinstance(value, Array)]
    return {key: f"arrays/{prose.unique(f'{prose.slug(section.name)}.{prose.slug(key)}', taken)}.npy" for key in keys}


def write_claims(out: Path, study: str, scale: str, claims: Sequence[tuple[Claim, Verdict]]) -> Path:
    """Writes ``claims.json``.

    Raises:
        OutputError: the folder cannot be written.
    """
    rows = [
        {
            "id": claim.id,
            "says": claim.says,
            "where": claim.where,
            "about": claim.about,
            "shows": claim.shows,
            "verdict": verdict.verdict,
            "statistic": plain(verdict.statistic),
            "p": plain(verdict.p),
            "n": int(verdict.n),
        }
        for claim, verdict in claims
    ]
    return files.write_json(out / "claims.json", {"schema": SCHEMA, "study": study, "scale": scale, "claims": rows})


def write_table(out: Path, rows: Sequence[Row]) -> Path:
    """Writes ``table.csv``, one line a number, and ``table.parquet`` where pyarrow is installed.

    The columns are the tags (``tag_NAME`` where a tag is called as another column) and then `COLUMNS`. An array has a
    line without a value; so has a measurement that failed or does not apply, with its note.

    Raises:
        OutputError: the folder cannot be written.
    """
    tags = list(dict.fromkeys(tag for row in rows for tag in row.tags))
    names = {tag: f"tag_{tag}" if tag in COLUMNS else tag for tag in tags}
    lines = [{**{names[tag]: row.tags.get(tag) for tag in tags}, **line} for row in rows for line in _lines(row)]
    header = [*names.values(), *COLUMNS]
    if find_spec("pyarrow") is not None:
        files.write_bytes(out / "table.parquet", _parquet(header, lines))
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return files.write_text(out / "table.csv", text.getvalue())


def plain(value: Any) -> Any:
    """The value as strict JSON knows it: scalars of any library as Python's, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(held) for held in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _values(out: Path, section: Section) -> tuple[dict[str, Any], list[Note]]:
    if not isinstance(section.outcome, Result):
        return {}, []
    paths = array_files(section)
    values: dict[str, Any] = {}
    notes: list[Note] = []
    for key, value in section.outcome.values.items():
        if isinstance(value, Array):
            values[key] = _array(out, paths[key], value)
        else:
            values[key] = _estimate(value)
            if not math.isfinite(value.value) or not math.isfinite(value.stderr or 0.0):
                notes.append(Note(code="not_finite", text=f"{prose.words(key)} is not a finite number."))
    return values, notes


def _estimate(estimate: Estimate) -> dict[str, Any]:
    value, stderr = plain(float(estimate.value)), plain(estimate.stderr)
    return {"value": value, "stderr": stderr, "n": int(estimate.n), "unit": estimate.unit, "method": estimate.method}


def _array(out: Path, path: str, array: Array) -> dict[str, Any]:
    files.ensure_folder((out / path).parent)
    files.write_bytes(out / path, _npy(array.data))
    entry: dict[str, Any] = {"file": path, "dims": list(array.dims), "unit": array.unit}
    for dim, along in array.coords.items():
        beside = f"{path.removesuffix('.npy')}.{prose.slug(dim)}.npy"
        files.write_bytes(out / beside, _npy(along))
        entry.setdefault("coords", {})[dim] = beside
    return entry


def _npy(data: Any) -> bytes:
    array = np.asarray(data)
    held = io.BytesIO()
    np.save(held, array.astype(np.float64) if array.dtype == object else array, allow_pickle=False)
    return held.getvalue()


def _lines(row: Row) -> list[dict[str, Any]]:
    shared: dict[str, Any] = {"seed": row.seed, "measurement": row.measurement, "status": status(row.outcome)}
    shared["note"] = "; ".join(f"{note.code}: {note.text}" for note in row.outcome.notes) or None
    if not isinstance(row.outcome, Result):
        return [shared]
    lines = []
    for key, value in row.outcome.values.items():
        if isinstance(value, Estimate):
            lines.append({**shared, "key": key, **_estimate(value)})
        else:
            shape = "x".join(map(str, np.shape(value.data)))
            lines.append({**shared, "key": key, "unit": value.unit, "method": f"array of {shape}"})
    return lines


def _parquet(header: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    columns = {}
    for name in header:
        values = [line.get(name) for line in lines]
        kinds = {type(value) for value in values if value is not None}
        kind: Any = _NUMERIC.get(name) or (kinds.pop() if len(kinds) == 1 else float if kinds == {int, float} else str)
        # A tag of mixed kinds has only its words in common.
        held = [None if value is None else kind(value) for value in values]
        columns[name] = pyarrow.array(held, types.get(kind, pyarrow.string()))
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()
