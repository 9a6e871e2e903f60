"""Writes the skeleton of a part and of its test; both pass every check as they are, so you change them step by step."""

from __future__ import annotations

import argparse
import keyword
import re
from pathlib import Path
from string import Template

from vallis.core import catalog
from vallis.core.errors import UsageError
from vallis.core.files import ensure_folder, write_text

EXAMPLES = """\
  vallis new measurement demo                     in a checkout of vallis: vallis/measurements/fit/demo.py and its test
  vallis new measurement demo --family curvature
  vallis new problem ponds                        anywhere else: ponds.py and test_ponds.py in this folder"""

_SINGULAR = {"problems": "problem", "models": "model", "measurements": "measurement", "studies": "study"}
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 40
_SKELETONS = Path(__file__).parent / "skeletons"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("kind", help="problem, model, training, measurement, theory or study")
    parser.add_argument("name", help="in small letters with underscores: my_measurement")
    parser.add_argument("--family", default="fit", help="the folder of a measurement (default: fit)")


def run(args: argparse.Namespace) -> int:
    """Writes two files and says what to do next.

    Raises:
        UsageError: the kind is unknown, the name cannot be used or is taken, or a file is in the way.
        OutputError: a file cannot be written.
    """
    kind = catalog.kind_of(args.kind)
    _check(kind, args.name, args.family)
    here = Path()
    inside = (here / "vallis" / "core" / "catalog.py").is_file() and (here / "tests").is_dir()
    files = in_checkout(kind, args.name, args.family) if inside else beside(kind, args.name)
    for path in files:
        if path.exists():
            raise UsageError(f"a new file was required, {path} is there already: choose another name or remove it")
    for path, text in files.items():
        ensure_folder(path.parent)
        write_text(path, text)
        print(f"wrote {path}")
    print(_next(kind, args.name, inside))
    return 0


def in_checkout(kind: str, name: str, family: str) -> dict[Path, str]:
    """The files of a part of vallis itself, and the marker of a family's folder where it is new."""
    inner = Path(kind, family) if kind == "measurements" else Path(kind)
    module = ".".join(("vallis", *inner.parts, name))
    files = {
        Path("vallis") / inner / f"{name}.py": fill(kind, name, module),
        Path("tests") / inner / f"test_{name}.py": fill(kind, name, module, test=True),
    }
    for folder in (Path("vallis") / kind, Path("vallis") / inner):
        if not (folder / "__init__.py").is_file():
            files[folder / "__init__.py"] = f'"""{folder.name.capitalize()}."""\n'
    return files


def beside(kind: str, name: str) -> dict[Path, str]:
    """The files of a part that lives in a package of its own."""
    return {Path(f"{name}.py"): fill(kind, name, name), Path(f"test_{name}.py"): fill(kind, name, name, test=True)}


def fill(kind: str, name: str, module: str, test: bool = False) -> str:
    """The text of a part, or of its test."""
    file = _SKELETONS / f"{'test_' if test else ''}{_SINGULAR.get(kind, kind)}.txt"
    words = {"name": name, "Class": catalog.class_name(name)}
    text = Template(file.read_text(encoding="utf-8")).substitute(words)
    return _importing(text, f"from {module} import {words['Class']}") if test else text


def _importing(text: str, line: str) -> str:
    """The test with the import of its part where the linter wants it: sorted, or below when it is no part of vallis."""
    lines = text.splitlines(keepends=True)
    places = [place for place, held in enumerate(lines) if held.startswith("from vallis.")]
    imports = lines[places[0] : places[-1] + 1]
    imports = sorted([*imports, f"{line}\n"]) if line.startswith("from vallis.") else [*imports, "\n", f"{line}\n"]
    return "".join([*lines[: places[0]], *imports, *lines[places[-1] + 1 :]])


def _check(kind: str, name: str, family: str) -> None:
    for what, word in (("name", name), ("family", family)):
        if not _NAME.fullmatch(word) or len(word) > _LONGEST or keyword.iskeyword(word):
            raise UsageError(
                f"a {what} in small letters with underscores, of {_LONGEST} at most, was required, {word!r} came: "
                "choose one such as my_measurement"
            )
    if family != "fit" and kind != "measurements":
        raise UsageError(f"--family goes with a measurement, a part of {kind} came: leave it out")
    if name in catalog.names(kind):
        raise UsageError(f"a new name was required, {name} is taken in {kind}: choose another")


def _next(kind: str, name: str, inside: bool) -> str:
    word = _SINGULAR.get(kind, kind)
    if inside:
        return f"next: make test; vallis show {word} {name}; then change both files step by step"
    return (
        "next: pytest; to let vallis find it, add this to the pyproject.toml of your package and install it:\n\n"
        f'[project.entry-points."vallis.{kind}"]\n{name} = "{name}:{catalog.class_name(name)}"'
    )
