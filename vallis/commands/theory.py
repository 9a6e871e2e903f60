"""Computes a curve or a bound that needs no trained network, and writes its page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vallis.commands import options, recipe

EXAMPLES = """\
  vallis list theory
  vallis theory NAME                         prints what it says and writes out/NAME/report.html
  vallis theory memorizing_network --memorizing_network.sizes 50,100,200 --out mine
  vallis theory NAME --json                  for programs; writes nothing"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("theory", help="its name; see vallis list theory")
    parser.add_argument("--seed", type=int, default=0, help="of what it draws (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON, and write nothing")
    where = f"the folder for the page (default: {recipe.OUT}/NAME)"
    parser.add_argument("--out", default=None, metavar="DIR", help=where)
    parser.add_argument("--threads", type=int, help="of torch; the last bits of results depend on it (default: 1)")


def named(args: argparse.Namespace) -> list[tuple[str, str, str]]:
    """The parts that were named."""
    return [(args.theory, "theory", args.theory)]


def prefixes(args: argparse.Namespace) -> list[str]:
    """What a dotted option may begin with."""
    return [args.theory]


def run(args: argparse.Namespace) -> int:
    """Computes, prints and writes the page.

    Raises:
        UsageError: there is no such theory, or a setting or its data cannot be used.
    """
    part = options.assemble("theory", args.theory, args.tree.at(args.theory))
    from vallis import __version__
    from vallis.commands.measure import plain, show
    from vallis.core.files import ensure_folder
    from vallis.core.types import Failed
    from vallis.report.page import write_examination
    from vallis.run.compute import compute

    threads, out = recipe.threads(args), Path(args.out or Path(recipe.OUT) / args.theory)
    if not args.json:
        ensure_folder(out)  # which may be refused: before anything is computed
    outcome = compute(part, seed=args.seed, threads=threads)
    if args.json:
        print(json.dumps(plain(outcome), indent=2))
    else:
        show(part, outcome)
        facts = {"model": args.theory, "problem": "", "seed": args.seed}
        page = write_examination(out, facts, [(part, outcome)], vallis_version=__version__)
        print(f"\npage: {page}")
    return 1 if isinstance(outcome, Failed) else 0
