"""Reruns the experiments of a paper, puts its claims to the test, and writes the page."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from vallis.commands import options, recipe
from vallis.core.errors import UsageError

if TYPE_CHECKING:
    from vallis.run.study import Judged, StudyRun

STUDY = "study.json"
EXAMPLES = """\
  vallis list studies
  vallis study NAME --scale smoke            does everything work?
  vallis study NAME --scale laptop --workers 4
  vallis study NAME --scale paper --scheduler tcp://host:8786 --store s3://bucket/store
  vallis study NAME --seeds 0,1,2,3,4        every network with each of these seeds

  Ctrl-C, or worse, loses nothing that was finished: the same command goes on where it was."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("study", help="its name; see vallis list studies")
    parser.add_argument("--scale", default="smoke", help="smoke, laptop or paper (default: smoke)")
    parser.add_argument("--seeds", default=None, help="whole numbers with commas, in place of the study's own")
    recipe.add_places(parser, out=f"{recipe.OUT}/NAME")
    recipe.add_workers(parser)


def named(args: argparse.Namespace) -> list[tuple[str, str, str]]:
    """The parts that were named."""
    return [("study", "studies", args.study)]


def prefixes(args: argparse.Namespace) -> list[str]:
    """What a dotted option may begin with."""
    return ["study"]


def run(args: argparse.Namespace) -> int:
    """Runs the study, writes its page and prints what became of the claims.

    Raises:
        UsageError: there is no such study or scale.
    """
    study = options.assemble("studies", args.study, args.tree.at("study"))
    seeds = None if args.seeds is None else _seeds(args.seeds)
    from vallis.core.files import ensure_folder, write_json
    from vallis.core.spec import to_spec
    from vallis.run.store import Store
    from vallis.run.study import run_study

    out = ensure_folder(args.out or Path(recipe.OUT) / args.study)
    store = Store(args.store or out / "store")
    write_json(out / STUDY, {"schema": 1, "study": to_spec(study), "scale": args.scale, "seeds": seeds})
    how = {"threads": recipe.threads(args), "say": recipe.say, **recipe.workers(args)}
    return write(run_study(study, args.scale, store=store, seeds=seeds, **how), out)


def write(done: StudyRun, out: Path) -> int:
    """Writes the page of a study, prints what became of its claims and returns the exit code.

    Raises:
        OutputError: the folder cannot be written.
    """
    from vallis.report.study_page import write_study

    facts = {"networks": len(done.execution.plan.trainings), "measurements": len(done.rows)}
    claims = [(item.claim, item.verdict) for item in done.judged]
    page = write_study(out, done.study, done.scale, claims, done.rows, done.figures, facts)
    print("\n".join(_verdict(item) for item in done.judged if item.verdict.verdict != "not_run" or item.trouble))
    idle = [item.claim.id for item in done.judged if item.verdict.verdict == "not_run" and not item.trouble]
    if idle:
        print(_filled(f"not run at this scale: {', '.join(idle)}"))
    lost = done.execution.failures
    if lost:
        print(f"\n{len(lost)} of {len(done.rows)} measurements failed; run the same command again to retry them, e.g.")
        print(f"  {lost[0].measurement}, seed {lost[0].seed}: {lost[0].outcome.notes[0].text}")
    if done.figures_failed:
        print(f"\nthe figures could not be made: {done.figures_failed}")
    print(f"\npage: {page}")
    return 1 if lost or done.figures_failed or any(item.trouble for item in done.judged) else 0


def _verdict(item: Judged) -> str:
    """A claim with its verdict and what it rests on."""
    from vallis.report.claims_board import evidence

    lines = [f"{item.claim.id}: {evidence(item.verdict)}", _filled(item.claim.says, "  ")]
    return "\n".join([*lines, *([f"  its rule could not be applied: {item.trouble}"] if item.trouble else [])])


def _filled(text: str, margin: str = "") -> str:
    columns = min(shutil.get_terminal_size((100, 24)).columns, 110)
    return textwrap.fill(text, columns, initial_indent=margin, subsequent_indent=margin or "  ")


def _seeds(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds must be whole numbers with commas, {text!r} came: write 0,1,2") from error
