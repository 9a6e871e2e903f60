"""Measures the ground a network stands on, one trained here or your own, and writes a report."""

from __future__ import annotations

import argparse
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vallis.commands import options, recipe
from vallis.core import catalog
from vallis.core.errors import UsageError, VallisError

PANEL = "quick"
EXAMPLES = """\
  vallis examine                                        a small net on handwritten digits
  vallis examine fashion_mnist --problem.num_train 5000 --model convnet
  vallis examine digits --model.widths 64,64 --training.learning_rate 0.3 --seed 1
  vallis examine corrupted --problem.base digits --problem.labels 0.5
  vallis examine digits --hessian_spectrum.num_top 5    settings of a measurement
  vallis examine mine.py:network --out mine             your own: the function `network` in mine.py
                                                        returns the arguments of vallis.examine as a dict

  The settings of each measurement are its options too: vallis show NAME lists them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument(
        "problem",
        nargs="?",
        default=recipe.PROBLEM,
        metavar="PROBLEM|FILE.py:FUNCTION",
        help=f"what to learn, or where your own network is (default: {recipe.PROBLEM})",
    )
    recipe.add_network(parser)
    parser.add_argument("--panel", help="which measurements: quick or full (default: quick)")
    recipe.add_places(parser)


def named(args: argparse.Namespace) -> list[tuple[str, str, str]]:
    """The parts that were named."""
    return [] if _is_own(args.problem) else recipe.named(args)


def prefixes(args: argparse.Namespace) -> list[str]:
    """What a dotted option may begin with."""
    return [*([] if _is_own(args.problem) else recipe.PARTS), *catalog.names("measurements")]


def run(args: argparse.Namespace) -> int:
    """Examines, writes the report and prints what it says.

    Raises:
        UsageError: something asked for cannot be done.
    """
    return _own(args) if _is_own(args.problem) else _trained(args)


def _trained(args: argparse.Namespace) -> int:
    parts = panel(args.panel or PANEL, args.tree)
    job = recipe.job(args, parts)
    from vallis.commands import pages
    from vallis.core.files import ensure_folder
    from vallis.run.store import Store

    out = ensure_folder(args.out or recipe.OUT)  # now, not after minutes of training
    store = Store(args.store or out / "store")
    done = recipe.execute(args, [job], store)
    for lost in (report.trouble for report in done.troubles.values() if report.trouble is not None):
        print(f"vallis: the training failed, {lost.error}: {lost.message}", file=sys.stderr)
        return 1
    known = pages.facts(job, store)
    page = pages.write_report(job, done.rows, store, out)
    print(
        f"{known['model']} on {known['problem']}: {known['parameters']:,} parameters, "
        f"{known['steps']:,} steps of {known['training']}, seed {known['seed']}\n"
    )
    print(pages.summary(pages.pair(job, done.rows)))
    print(f"\nreport: {page}")
    return 1 if done.failures else 0


def _own(args: argparse.Namespace) -> int:
    from vallis.core.types import Failed
    from vallis.report.examine import examine
    from vallis.run.isolation import isolated

    idle = [name for name in ("model", "training", "seed", "store") if getattr(args, name) is not None]
    if idle:
        raise UsageError(f"--{idle[0]} goes with a problem, {args.problem} came: leave it out")
    threads = None if args.threads is None else recipe.threads(args)
    given = _arguments(args)
    try:
        with isolated(threads):
            found = examine(given.pop("module"), given.pop("loss"), **given)
    except KeyboardInterrupt as error:  # there is no store: what was measured is in the report, and nowhere else
        page = Path(given["out"]) / "report.html"
        raise KeyboardInterrupt(
            f"stopped: what was measured is in {page}; the same command begins anew"
            if page.exists()
            else "stopped before anything was measured"
        ) from error
    print(found)
    return 1 if any(isinstance(outcome, Failed) for outcome in found.results.values()) else 0


def _arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `vallis.examine`: those of the function, and over them those of the command line."""
    from vallis.core.own import solution_of
    from vallis.report.examine import examine

    given = call(args.problem)
    if not {"module", "loss", "train"} <= set(given):
        raise UsageError(
            f"a dict with module, loss and train was required of {args.problem}, it has "
            f"{', '.join(sorted(map(str, given))) or 'nothing'}: return the arguments of vallis.examine"
        )
    known = {*inspect.signature(examine).parameters, *inspect.signature(solution_of).parameters} - {"how"}
    for name in given:
        if name not in known:
            raise UsageError(f"{args.problem}: {catalog.unknown('argument of vallis.examine', str(name), known)}")
    if args.panel is not None and "measurements" in given:
        raise UsageError(f"--panel chooses measurements, {args.problem} names its own: leave one of the two out")
    given["out"] = args.out or given.get("out", recipe.OUT)
    given["panel"] = args.panel or given.get("panel", PANEL)
    if args.tree.below:
        if "measurements" in given:
            raise UsageError(
                f"settings for a panel were given, {args.problem} names its own measurements: set them there"
            )
        given["measurements"] = panel(given["panel"], args.tree)
    return given


def panel(name: str, tree: options.Tree) -> list[Any]:
    """The measurements of a panel that take one solution, with their settings there and those of the command line.

    Raises:
        UnknownPart: there is no such panel.
        SettingsError: a setting is unknown or of the wrong type.
    """
    classes = {part: catalog.load("measurements", part) for part in catalog.names("measurements")}
    # One that watches training is in no panel, and need not say so.
    panels = {key: getattr(part, "panels", {}) for key, part in classes.items()}
    known = {panel for held in panels.values() for panel in held}
    if name not in known:
        raise catalog.unknown("panel", name, known)
    chosen = [key for key, part in classes.items() if name in panels[key] and part.takes == "solution"]
    idle = [word for word in tree.below if word in classes and word not in chosen]
    if idle:
        raise UsageError(
            f"{idle[0]} is not in the panel {name}, so its settings do nothing: use vallis measure {idle[0]}"
        )
    return [recipe.measurement(key, tree, name) for key in chosen]


def call(where: str) -> dict[str, Any]:
    """What the function returns that ``FILE.py:FUNCTION`` names.

    Raises:
        UsageError: there is no such file or function, or it returns something else than a dict.
    """
    path, _, function = where.rpartition(":")
    if not path or not function:
        raise UsageError(f"a file and a function in it were required, {where} came: write FILE.py:FUNCTION")
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"a Python file was required at {path}, there is none: write FILE.py:FUNCTION")
    scope = _guarded(lambda: _module(file), file, "a file that can be imported")
    if not callable(getattr(scope, function, None)):
        raise UsageError(f"a function {function} was required in {path}, there is none: define it")
    given = _guarded(getattr(scope, function), file, f"a function {function}() that returns")
    if not isinstance(given, dict):
        raise UsageError(f"a dict was required of {where}, a {type(given).__name__} came: return the arguments by name")
    return dict(given)


def _guarded(act: Callable[[], Any], file: Path, what: str) -> Any:
    """What it returns; what code of the user's raises becomes one sentence that says in which line."""
    try:
        return act()
    except VallisError:
        raise
    except Exception as error:
        seen = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in seen if Path(frame.filename).resolve() == file.resolve()]
        number = own[-1].lineno if own else getattr(error, "lineno", None)
        line = f", line {number}," if number else ""
        said = " ".join(str(error).split())
        raise UsageError(f"{what} was required, {file}{line} raised {type(error).__name__}: {said}; mend it") from error


def _module(file: Path) -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"a Python file was required, {file} is none: its name must end in .py")
    module = module_from_spec(spec)
    # As if it had been run: it may import what lies beside it, and its classes must be found by their module's name.
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules.setdefault(file.stem, module)
    spec.loader.exec_module(module)
    return module


def _is_own(word: str) -> bool:
    return ".py" in word
