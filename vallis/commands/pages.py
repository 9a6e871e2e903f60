"""What commands write and print of finished jobs: the report's facts, the job that makes it again, a short summary."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vallis import __version__
from vallis.core import files
from vallis.core.errors import StoreError
from vallis.core.numbers import is_exact
from vallis.core.spec import is_part, name_of, to_spec
from vallis.core.types import Array, Estimate, Job, Outcome, Result, Row
from vallis.report.page import write_examination
from vallis.run.plan import train_node
from vallis.run.store import Store

JOBS = "jobs.json"
SCHEMA = 1
Measured = Sequence[tuple[Any, Outcome]]


def write_report(job: Job, rows: Iterable[Row], store: Store, out: Path) -> Path:
    """Writes the report of one finished job, and ``jobs.json``, from which it can be made again.

    Raises:
        OutputError: the folder cannot be written.
        StoreError: the training is not in the store.
    """
    known = facts(job, store)
    files.ensure_folder(out)
    write_jobs(out, [job])
    return write_examination(out, known, pair(job, rows), vallis_version=__version__)


def write_jobs(out: Path, jobs: Sequence[Job]) -> None:
    """Writes the jobs in the form that ``vallis run`` reads.

    Raises:
        OutputError: the folder cannot be written.
    """
    files.write_json(out / JOBS, {"schema": SCHEMA, "jobs": [plain(job) for job in jobs]})


def plain(job: Job) -> dict[str, Any]:
    """A job as plain JSON."""
    return {
        "problem": to_spec(job.problem),
        "model": to_spec(job.model),
        "training": to_spec(job.training),
        "measurements": [to_spec(part) for part in job.measurements],
        "seed": job.seed,
        "snapshots": list(job.snapshots),
        "partner": None if job.partner is None else plain(job.partner),
        "others": [plain(other) for other in job.others],
        "tags": dict(job.tags),
    }


def name_of_training(job: Job) -> str:
    """The digest of the training of a job."""
    return train_node(job).digest


def pair(job: Job, rows: Iterable[Row]) -> Measured:
    """The measurements of a job with their outcomes, of the rows that belong to it alone."""
    return list(zip(job.measurements, (row.outcome for row in rows), strict=True))


def facts(job: Job, store: Store) -> dict[str, Any]:
    """What the report says of a network that was trained here.

    Raises:
        StoreError: the training is not in the store.
    """
    node = train_node(job)
    record = store.find(node.digest)
    if record is None:
        raise StoreError(f"the training {node.digest[:12]} was required, {store.url} does not hold it: train it")
    values = record.values
    changed = [text for prefix in ("problem", "model", "training") for text in _changed(getattr(node, prefix), prefix)]
    return {
        "problem": title(node.problem),
        "model": title(node.model),
        "parameters": values["parameters"],
        "digest": node.digest,
        **{f"num_{split}": size for split, size in values["examples"].items()},
        "training": title(node.training),
        "steps": values["steps"],
        "stopped_by": values["reason"] or "itself",
        "seed": node.seed,
        **({"settings": ", ".join(changed)} if changed else {}),
    }


def title(part: Any) -> str:
    """The name of a part, with those it holds: ``corrupted(digits)``."""
    held = [title(value) for value in (getattr(part, item.name) for item in dataclasses.fields(part)) if is_part(value)]
    return name_of(part) + (f"({', '.join(held)})" if held else "")


def summary(found: Measured) -> str:
    """The results in plain words, for a terminal."""
    columns = min(shutil.get_terminal_size((100, 24)).columns, 110)
    margin = max((len(name_of(part)) for part, _ in found), default=0) + 2
    return "\n".join(
        textwrap.fill(
            said(part, outcome), columns, initial_indent=f"{name_of(part):<{margin}}", subsequent_indent=" " * margin
        )
        for part, outcome in found
    )


def said(part: Any, outcome: Outcome) -> str:
    """One result in words."""
    if isinstance(outcome, Result):
        try:
            return str(part.reading(outcome)) if hasattr(part, "reading") else numbers(outcome)
        except Exception as error:  # the numbers are there all the same
            return f"{numbers(outcome)} (its reading failed: {type(error).__name__})"
    return "; ".join(f"{note.code}: {note.text}" for note in outcome.notes)


def numbers(result: Result) -> str:
    """The values of a result on one line."""
    return ", ".join(f"{key} {value_text(value)}" for key, value in result.values.items())


def value_text(value: Estimate | Array) -> str:
    """A value with its error bar and its unit, or the shape of an array."""
    if isinstance(value, Array):
        return f"array {'x'.join(map(str, value.data.shape))} over {', '.join(value.dims)}"
    bar = "" if value.stderr is None or is_exact(value) else f" +- {value.stderr:.2g}"
    unit = "" if value.unit == "1" else f" {value.unit}"
    return f"{value.value:.6g}{bar}{unit}{' (exact)' if is_exact(value) else ''}"


def _changed(part: Any, prefix: str) -> list[str]:
    """The settings of a part that are not its defaults, as options."""
    found = []
    for item in dataclasses.fields(part):
        value = getattr(part, item.name)
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        if is_part(value):
            found += _changed(value, f"{prefix}.{item.name}")
        elif value != default:
            text = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
            found.append(f"{prefix}.{item.name}={text}")
    return found
