"""The arguments that several commands share: what to train, where results go, and how much of the machine to use."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vallis.commands import options
from vallis.commands.options import Tree
from vallis.core import catalog
from vallis.core.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from vallis.core.types import Job
    from vallis.run.execute import Execution
    from vallis.run.store import Store

PROBLEM, MODEL, TRAINING = "digits", "mlp", "gradient_descent"
# What the default training does when none is named: a good recipe for small nets (98 % of unseen digits in seconds).
SETTINGS = {"momentum": 0.9, "weight_decay": 0.001}
OUT = "out"
PARTS = ("problem", "model", "training")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Adds what names a network to train."""
    parser.add_argument("--model", metavar="NAME", help=f"what to train (default: {MODEL})")
    usual = ", ".join(f"{key} {value}" for key, value in SETTINGS.items())
    parser.add_argument("--training", metavar="NAME", help=f"how (default: {TRAINING} with {usual} where they fit)")
    parser.add_argument("--seed", type=int, help="of data, weights and training (default: 0)")


def add_places(parser: argparse.ArgumentParser, out: str | None = OUT) -> None:
    """Adds where results go and how many threads make them; without `out`, the store alone."""
    if out is not None:
        parser.add_argument("--out", default=None, metavar="DIR", help=f"the folder for the report (default: {out})")
    where = "OUT/store" if out is not None else f"{OUT}/store"
    parser.add_argument(
        "--store", default=None, metavar="DIR", help=f"where results are kept: a path or fsspec URL (default: {where})"
    )
    parser.add_argument("--threads", type=int, help="of torch; the last bits of results depend on it (default: 1)")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Adds who does the work."""
    workers = "processes of this machine that share the work; more than one need vallis[cluster] (default: 1)"
    parser.add_argument("--workers", type=int, default=1, metavar="N", help=workers)
    scheduler = "a dask scheduler whose workers do the work instead, e.g. tcp://host:8786 (default: none)"
    parser.add_argument("--scheduler", metavar="ADDRESS", help=scheduler)


def named(args: argparse.Namespace) -> list[tuple[str, str, str]]:
    """The prefix of its options, the kind and the name of each part of the network."""
    return [
        ("problem", "problems", args.problem),
        ("model", "models", args.model or MODEL),
        ("training", "training", args.training or TRAINING),
    ]


def job(args: argparse.Namespace, measurements: Sequence[Any] = (), **more: Any) -> Job:
    """The job that the command line describes.

    Raises:
        UsageError: a part is unknown, or a setting cannot be used.
    """
    from vallis.core.types import Job

    parts = {prefix: options.assemble(kind, name, args.tree.at(prefix)) for prefix, kind, name in named(args)}
    if args.training is None:
        # Where the usual settings do not go with what was asked (no momentum in Adam), the part's own defaults hold.
        with contextlib.suppress(SettingsError):
            parts["training"] = options.assemble("training", TRAINING, args.tree.at("training"), SETTINGS)
    return Job(**parts, measurements=tuple(measurements), seed=args.seed or 0, **more)


def measurement(name: str, tree: Tree, panel: str | None = None) -> Any:
    """A measurement with the settings of a panel, and those of the command line over them.

    Raises:
        UsageError: it is unknown, or a setting cannot be used.
    """
    settings = catalog.load("measurements", name).panels[panel] if panel is not None else {}
    return options.assemble("measurements", name, tree.at(name), settings)


def threads(args: argparse.Namespace) -> int:
    """How many threads torch computes with.

    Raises:
        UsageError: none.
    """
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"at least one thread was required, --threads {args.threads} came: give more")
    return 1 if args.threads is None else int(args.threads)


def workers(args: argparse.Namespace) -> dict[str, Any]:
    """Who does the work, as `vallis.run.execute.execute` takes it; a command without these options does it itself."""
    return {"workers": getattr(args, "workers", 1), "scheduler": getattr(args, "scheduler", None)}


def execute(args: argparse.Namespace, jobs: Sequence[Job], store: Store) -> Execution:
    """Trains and measures what is missing, telling of each piece on the terminal.

    Raises:
        UsageError: the training of a single job cannot be done as asked (one of many fails alone), or nobody is there
            to do it.
    """
    from vallis.run.execute import execute as run

    done = run(jobs, store, threads=threads(args), say=say, **workers(args))
    for report in done.troubles.values() if len(jobs) == 1 else ():
        if report.refused and report.trouble is not None:
            raise UsageError(report.trouble.message)
    return done


def say(line: str) -> None:
    """A line on standard error that does not break a progress bar; only people at a terminal are told."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)
