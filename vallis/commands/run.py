"""Trains and measures what a JSON file of jobs asks for: `jobs.json` beside a report, or one you wrote."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vallis.commands import recipe
from vallis.core.errors import UsageError

if TYPE_CHECKING:
    from vallis.core.types import Job

EXAMPLES = """\
  vallis run out/jobs.json --out again       makes a report again
  vallis run sweep.json --workers 4          several jobs, shared among processes
  vallis run sweep.json --scheduler tcp://host:8786 --store DIR     on the workers of a dask scheduler

  A job is {"problem": PART, "model": PART, "training": PART, "measurements": [PART, ...], "seed": 0},
  where a PART is its name, "mlp", or a name with settings, {"name": "mlp", "settings": {"widths": [64, 64]}}.
  "snapshots": [0, 10] keeps a path, "partner": JOB is the other of a pair, and "others": [JOB, ...] lie beside a path.
  A file holds one job, or {"jobs": [JOB, ...]}."""

_KINDS = {"problem": "problems", "model": "models", "training": "training"}
_BESIDE = {"measurements", "seed", "snapshots", "partner", "others", "tags"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("file", type=Path, help="JSON")
    recipe.add_places(parser)
    recipe.add_workers(parser)


def run(args: argparse.Namespace) -> int:
    """Does the jobs; one has its report in OUT, several have theirs in OUT/0, OUT/1 ... and share OUT/table.csv.

    Raises:
        UsageError: the file holds no jobs.
    """
    jobs = load(args.file)
    from vallis.commands import pages
    from vallis.core.files import ensure_folder
    from vallis.report.table import write_table
    from vallis.run.store import Store

    out = ensure_folder(args.out or recipe.OUT)
    store = Store(args.store or out / "store")
    done = recipe.execute(args, jobs, store)
    rows = list(done.rows)
    for number, job in enumerate(jobs):
        own, rows = rows[: len(job.measurements)], rows[len(job.measurements) :]
        lost = done.troubles.get(pages.name_of_training(job))
        if lost is not None and lost.trouble is not None:
            print(f"job {number}: the training failed, {lost.trouble.error}: {lost.trouble.message}\n")
            continue
        page = pages.write_report(job, own, store, out if len(jobs) == 1 else out / str(number))
        print(f"{pages.summary(pages.pair(job, own))}\nreport: {page}\n")
    if len(jobs) > 1:
        pages.write_jobs(out, jobs)
        print(f"table: {write_table(out, done.rows)}")
    return 1 if done.failures or done.troubles else 0


def load(file: Path) -> list[Job]:
    """The jobs in a file.

    Raises:
        UsageError: it cannot be read, is no JSON, or holds no jobs.
    """
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"a JSON file of jobs was required, {file} cannot be read ({error}): write one") from error
    found = held.get("jobs", [held]) if isinstance(held, Mapping) else held
    if not isinstance(found, list) or not found or not all(isinstance(item, Mapping) for item in found):
        raise UsageError(f"a job, or jobs in a list, was required, {file} holds neither: see vallis run --help")
    return [job_of(item, f"job {number} of {file}") for number, item in enumerate(found)]


def job_of(held: Mapping[str, Any], where: str) -> Job:
    """The job that plain JSON describes.

    Raises:
        UsageError: something is missing, unknown or of the wrong type.
    """
    from vallis.core.catalog import unknown
    from vallis.core.types import Job

    for key in held:
        if key not in {*_KINDS, *_BESIDE}:
            raise UsageError(f"{where}: {unknown('key', key, {*_KINDS, *_BESIDE})}")
    missing = [key for key in _KINDS if key not in held]
    if missing:
        raise UsageError(f"{where} must name a {missing[0]}, it does not: add one")
    _must_be_plain(held, where)
    parts = {key: part_of(held[key], kind, where) for key, kind in _KINDS.items()}
    measurements = tuple(part_of(item, "measurements", where) for item in held.get("measurements", []))
    partner = held.get("partner")
    seed, snapshots = held.get("seed", 0), held.get("snapshots", [])
    return Job(
        **parts,
        measurements=measurements,
        seed=seed,
        snapshots=tuple(snapshots),
        partner=None if partner is None else job_of(partner, f"the partner of {where}"),
        others=tuple(job_of(other, f"one of the others of {where}") for other in held.get("others", [])),
        tags=held.get("tags", {}),
    )


def _must_be_plain(held: Mapping[str, Any], where: str) -> None:
    """Refuses what beside the parts has another type than `Job` takes."""
    snapshots, tags, others = held.get("snapshots", []), held.get("tags", {}), held.get("others", [])
    wanted = {
        "seed": ("a whole number", _is_whole(held.get("seed", 0))),
        "snapshots": (
            "a list of whole numbers from 0 on",
            isinstance(snapshots, list) and all(_is_whole(step) and step >= 0 for step in snapshots),
        ),
        "measurements": ("a list", isinstance(held.get("measurements", []), list)),
        "partner": ("a job", isinstance(held.get("partner"), Mapping | None)),
        "others": (
            "a list of jobs",
            isinstance(others, list) and all(isinstance(other, Mapping) for other in others),
        ),
        "tags": (
            "an object of texts, numbers, true and false",
            isinstance(tags, Mapping) and all(isinstance(value, (str, int, float, bool)) for value in tags.values()),
        ),
    }
    for key, (required, good) in wanted.items():
        if not good:
            raise UsageError(f"{where} must have {required} as {key}, {held[key]!r} came: mend it")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def part_of(held: Any, kind: str, where: str) -> Any:
    """The part that a name, or a spec with or without its kind, describes; so with the parts in its settings.

    Raises:
        UsageError: there is no such part, or a setting cannot be used.
    """
    from vallis.core.spec import from_spec

    spec = {"name": held} if isinstance(held, str) else held
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise UsageError(f"{where} must say which of {kind} by a name, {held!r} came: write its name")
    spec = {"kind": kind, "settings": {}, **spec}
    if not isinstance(spec["settings"], Mapping):
        raise UsageError(
            f'{where} needs an object as settings of {spec["name"]}, {spec["settings"]!r} came: write {{"key": value}}'
        )
    return from_spec({**spec, "settings": _with_parts(spec, where)})


def _with_parts(spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings of a spec, with a part wherever a field holds one."""
    from vallis.commands import options
    from vallis.core import catalog

    if spec["kind"] not in catalog.KINDS:
        return dict(spec["settings"])
    types = options.hints(catalog.load(spec["kind"], spec["name"]))
    return {
        name: value
        if value is None or (kind := options.kind_of(types.get(name))) is None
        else part_of(value, kind, f"{spec['name']}.{name} of {where}")
        for name, value in spec["settings"].items()
    }
