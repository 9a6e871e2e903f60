"""Lists the parts there are: problems, models, training, measurements, theory, studies."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap

from vallis.core import catalog

EXAMPLES = """\
  vallis list                      everything
  vallis list measurements         what can be asked of a network
  vallis list studies --json       for programs"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("kind", nargs="?", help=f"one of {', '.join(catalog.KINDS)}; all when left out")
    parser.add_argument("--json", action="store_true", help="print JSON: {KIND: [{name, summary}]}")


def run(args: argparse.Namespace) -> int:
    """Prints the table; imports neither torch nor the parts.

    Raises:
        UnknownPart: there is no such kind.
    """
    kinds = [catalog.kind_of(args.kind)] if args.kind else list(catalog.KINDS)
    table = {kind: {name: catalog.summary(kind, name) for name in catalog.names(kind)} for kind in kinds}
    if args.json:
        found = {kind: [{"name": n, "summary": s} for n, s in parts.items()] for kind, parts in table.items()}
        print(json.dumps(found, indent=2))
        return 0
    print("\n\n".join(_block(kind, parts) for kind, parts in table.items()))
    return 0


def _block(kind: str, parts: dict[str, str]) -> str:
    columns = shutil.get_terminal_size((100, 24)).columns
    margin = max((len(name) for name in parts), default=0) + 4
    lines = [
        textwrap.fill(says or "-", columns, initial_indent=f"  {name:<{margin - 2}}", subsequent_indent=" " * margin)
        for name, says in parts.items()
    ]
    return "\n".join([kind, *(lines or ["  none yet"])])
