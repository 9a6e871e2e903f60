"""Makes a report again from what was kept, and exports its figures for papers; measures nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vallis.core.errors import UsageError

if TYPE_CHECKING:
    from vallis.core.types import Job
    from vallis.run.store import Store

EXAMPLES = """\
  vallis report out                          writes the page anew, e.g. with a newer vallis
  vallis report out --figures pdf,csv        each figure as out/figures/NAME.pdf and its data as NAME.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder of a report or a study")
    parser.add_argument("--figures", default=None, metavar="FORMATS", help="of pdf, svg, png, csv, with commas")
    parser.add_argument("--store", default=None, metavar="DIR", help="where results are kept (default: DIR/store)")


def run(args: argparse.Namespace) -> int:
    """Exports the figures, or writes the page anew.

    Raises:
        UsageError: the folder holds no report, or what it was made of is not in the store.
    """
    if not args.folder.is_dir():
        raise UsageError(f"the folder of a report or a study was required, {args.folder} is none: make a report first")
    if args.figures is not None:
        return _export(args.folder, args.figures)
    from vallis.commands import pages
    from vallis.commands.study import STUDY
    from vallis.run.store import Store

    store = Store(args.store or args.folder / "store")
    if (args.folder / pages.JOBS).is_file():
        return _jobs(args.folder, store)
    if (args.folder / STUDY).is_file():
        return _study(args.folder, store)
    raise UsageError(
        f"the folder of a report or a study was required, {args.folder} has neither {pages.JOBS} nor {STUDY}: "
        "export the figures of a report on your own network with --figures, or make it again"
    )


def _export(folder: Path, formats: str) -> int:
    from vallis.report.export import export

    wanted = [word.strip() for word in formats.split(",") if word.strip()]
    if not wanted:
        raise UsageError(
            f"at least one of pdf, svg, png and csv was required, {formats!r} came: write --figures pdf,csv"
        )
    written = export(folder, wanted)
    for path in written:
        print(path)
    if not written:
        print(f"vallis: the report in {folder} has no figures, nothing was written", file=sys.stderr)
    return 0


def _jobs(folder: Path, store: Store) -> int:
    from vallis.commands import pages
    from vallis.commands.run import load
    from vallis.run.execute import execute

    jobs = load(folder / pages.JOBS)
    _must_have(jobs, store, f"vallis run {folder / pages.JOBS}")
    rows = list(execute(jobs, store).rows)
    for number, job in enumerate(jobs):
        own, rows = rows[: len(job.measurements)], rows[len(job.measurements) :]
        print(pages.write_report(job, own, store, folder if len(jobs) == 1 else folder / str(number)))
    return 0


def _study(folder: Path, store: Store) -> int:
    import json

    from vallis.commands.study import STUDY, write
    from vallis.core.spec import from_spec
    from vallis.run.study import run_study, with_seeds

    try:
        held = json.loads((folder / STUDY).read_text(encoding="utf-8"))
        study, scale, seeds = from_spec(held["study"]), held["scale"], held["seeds"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"a study was required in {folder / STUDY}, there is none ({error}): run it again") from error
    jobs = list(study.jobs(scale))
    _must_have(jobs if seeds is None else with_seeds(jobs, seeds), store, f"vallis study {held['study']['name']}")
    return write(run_study(study, scale, store=store, seeds=seeds), folder)


def _must_have(jobs: Sequence[Job], store: Store, command: str) -> None:
    """Refuses to measure.

    Raises:
        UsageError: a result is not in the store.
    """
    from vallis.run.plan import missing, plan

    lacking = missing(plan(jobs), store)
    if lacking.trainings or lacking.measurements:
        raise UsageError(
            f"all results of the report were required in {store.url}, {len(lacking.measurements)} measurements and "
            f"{len(lacking.trainings)} trainings are missing: make them with {command}"
        )
