"""Asks one question of a network that is trained here, and prints the answer."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vallis.commands import recipe
from vallis.core.errors import UsageError

if TYPE_CHECKING:
    from vallis.core.types import Job, Outcome
    from vallis.run.execute import Execution
    from vallis.run.store import Store

EXAMPLES = """\
  vallis measure hessian_spectrum                     of the default network
  vallis measure hessian_trace digits --model convnet --json
  vallis measure margins corrupted --problem.base digits --problem.labels 1.0
  vallis measure NAME --snapshots 0,10,100            for one that takes a whole trajectory
  vallis measure NAME --partner-seed 1                for one that takes a pair"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("measurement", help="its name; see vallis list measurements")
    parser.add_argument("problem", nargs="?", default=recipe.PROBLEM, help=f"what to learn (default: {recipe.PROBLEM})")
    recipe.add_network(parser)
    parser.add_argument("--snapshots", default="", metavar="STEPS", help="where a trajectory stops, with commas")
    parser.add_argument("--partner-seed", type=int, metavar="SEED", help="of the second network of a pair")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    recipe.add_places(parser, out=None)


def named(args: argparse.Namespace) -> list[tuple[str, str, str]]:
    """The parts that were named."""
    return [(args.measurement, "measurements", args.measurement), *recipe.named(args)]


def prefixes(args: argparse.Namespace) -> list[str]:
    """What a dotted option may begin with."""
    return [*recipe.PARTS, args.measurement]


def run(args: argparse.Namespace) -> int:
    """Trains if need be, measures if need be, and prints.

    Raises:
        UsageError: something asked for cannot be done, or an option does nothing for this measurement.
    """
    if ".py" in args.problem:
        raise UsageError(
            f"the name of a problem was required, {args.problem} came: your own network is measured by "
            f"vallis examine {args.problem}, or in Python by vallis.measure"
        )
    part = recipe.measurement(args.measurement, args.tree)
    _must_go_with(part.takes, args)
    job = recipe.job(args, [part], snapshots=_steps(args.snapshots))
    if args.partner_seed is not None:
        job = replace(job, partner=replace(job, seed=args.partner_seed, measurements=()))
    from vallis.core.types import Failed
    from vallis.run.store import Store

    store = Store(args.store or f"{recipe.OUT}/store")
    if job.snapshots:
        _must_be_within(job, recipe.execute(args, [replace(job, measurements=())], store), store)
    (row,) = recipe.execute(args, [job], store).rows
    if args.json:
        print(json.dumps(plain(row.outcome), indent=2))
    else:
        show(part, row.outcome)
    return 1 if isinstance(row.outcome, Failed) else 0


def show(part: Any, outcome: Outcome) -> None:
    """Prints one result: its reading, its values and its notes."""
    from vallis.commands import pages
    from vallis.core.types import Result

    print(pages.summary([(part, outcome)]))
    if isinstance(outcome, Result):
        lines = [f"{key}: {pages.value_text(value)}" for key, value in outcome.values.items()]
        lines += [f"note {note.code}: {note.text}" for note in outcome.notes]
        print("\n".join(f"  {line}" for line in lines))


def plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome as strict JSON with its arrays as lists; what is not finite is written ``{"$float": "nan"}``."""
    from vallis.core.types import Array, Result
    from vallis.run.codec import encode, to_json

    held, _ = encode(outcome)
    if isinstance(outcome, Result):
        for key, value in outcome.values.items():
            if isinstance(value, Array):
                coords = {dim: along.tolist() for dim, along in value.coords.items()}
                held["values"][key] |= {"data": value.data.tolist(), "coords": coords}
                held["values"][key].pop("words", None)
    found: dict[str, Any] = to_json(held)
    return found


def _must_go_with(takes: str, args: argparse.Namespace) -> None:
    """Refuses an option that would do nothing, and asks for one without which nothing can be done."""
    from vallis.core.protocols import PATHS

    if args.snapshots and takes not in PATHS:
        raise UsageError(f"--snapshots goes with what takes a path, {args.measurement} takes a {takes}: leave it out")
    if args.partner_seed is not None and takes != "pair":
        raise UsageError(
            f"--partner-seed goes with a measurement of a pair, {args.measurement} takes a {takes}: leave it out"
        )
    if args.partner_seed is None and takes == "pair":
        raise UsageError(
            f"a second network was required, {args.measurement} takes a pair: name its seed with --partner-seed 1"
        )


def _must_be_within(job: Job, trained: Execution, store: Store) -> None:
    """Refuses snapshots at steps that the training, which is done by now, did not reach."""
    from vallis.commands import pages

    if trained.troubles:
        return  # which is said when the measurement is found to have no network
    steps = pages.facts(job, store)["steps"]
    if max(job.snapshots) > steps:
        raise UsageError(
            f"--snapshots at steps 0..{steps} were required, {max(job.snapshots)} came: the training ends at step "
            f"{steps}, which is measured in any case"
        )


def _steps(text: str) -> tuple[int, ...]:
    try:
        steps = tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"--snapshots must be whole numbers with commas, {text!r} came: write 0,10,100") from error
    if any(step < 0 for step in steps):
        raise UsageError(f"--snapshots must be at steps from 0 on, {min(steps)} came: count from the start")
    return steps
