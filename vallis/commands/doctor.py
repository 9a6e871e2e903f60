"""Looks at this machine: versions, devices, optional packages, data sets, places to write. Says what to do."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vallis import __version__
from vallis.commands import recipe
from vallis.core import catalog
from vallis.core.errors import DataMissing, OutputError
from vallis.core.files import ensure_folder

EXAMPLES = """\
  vallis doctor
  vallis doctor --out results        can results be written there?"""

_LEAST_PYTHON = (3, 11)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line: what was looked at, what was found, and what to do if that is not enough.

    Attributes:
        status: "ok", "missing" (something optional) or "broken" (nothing works without).
    """

    what: str
    found: str
    status: str = "ok"
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Says what the command takes."""
    parser.add_argument("--out", type=Path, default=Path(recipe.OUT), metavar="DIR", help="where results would go")


def run(args: argparse.Namespace) -> int:
    """Prints all findings; fails if something is broken."""
    findings = [*system(), *torch(), *extras(), *data(), place(args.out)]
    margin = max(len(finding.what) for finding in findings) + 2
    for finding in findings:
        print(f"{finding.status:<9}{finding.what:<{margin}}{finding.found}")
        if finding.advice:
            print(f"{'':<{margin + 9}}{finding.advice}")
    return 1 if any(finding.status == "broken" for finding in findings) else 0


def system() -> Iterator[Finding]:
    """Python and vallis."""
    good = sys.version_info[:2] >= _LEAST_PYTHON
    least = ".".join(map(str, _LEAST_PYTHON))
    yield Finding(
        what="python",
        found=f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        status="ok" if good else "broken",
        advice="" if good else f"install Python {least} or newer",
    )
    yield Finding(what="vallis", found=f"{__version__} in {Path(__file__).resolve().parents[1]}")


def torch() -> Iterator[Finding]:
    """The version of torch, its devices and its threads."""
    try:
        found = importlib.import_module("torch")
    except ImportError as error:
        yield Finding(what="torch", found=str(error), status="broken", advice="pip install torch")
        return
    devices = [found.cuda.get_device_name(number) for number in range(found.cuda.device_count())]
    devices += ["mps"] if found.backends.mps.is_available() else []
    yield Finding(what="torch", found=f"{found.__version__}, {found.get_num_threads()} threads")
    yield Finding(what="devices", found=", ".join(["cpu", *devices]))


def extras() -> Iterator[Finding]:
    """The optional packages, by the extra that installs them; those of developers are left out."""
    needs: dict[str, list[str]] = {}
    for line in metadata.requires("vallis") or []:
        found = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line)
        if found and found[2] not in ("dev", "bench"):
            needs.setdefault(found[2], []).append(found[1])
    for extra, packages in needs.items():
        lacking = [name for name in packages if not _installed(name)]
        yield Finding(
            what=f"extra {extra}",
            found=f"{', '.join(lacking)} not installed" if lacking else ", ".join(packages),
            status="missing" if lacking else "ok",
            advice=f"pip install 'vallis[{extra}]'" if lacking else "",
        )


def data() -> Iterator[Finding]:
    """The problems, each built in its smallest form from what lies on this machine; nothing is downloaded."""
    from vallis.core.rng import Rng
    from vallis.problems._files import roots

    there = [str(folder) for folder in roots(None) if folder.is_dir()]
    yield Finding(what="data", found=f"looked for in {', '.join(there) or 'no folder: set VALLIS_DATA to one'}")
    for name in catalog.names("problems"):
        try:
            part = catalog.load("problems", name)
            if not hasattr(part, "tiny"):
                continue  # it needs to be told something first
            with _offline():
                tasks = part.tiny().build(Rng(0))
        except DataMissing as error:
            yield Finding(what=f"problem {name}", found="its data are not on this machine", **_missing(str(error)))
        except Exception as error:
            yield Finding(what=f"problem {name}", found=f"{type(error).__name__}: {error}", status="broken")
        else:
            sizes = ", ".join(f"{split} {len(held)}" for split, held in tasks[0].splits.items())
            yield Finding(what=f"problem {name}", found=f"builds ({sizes})")


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Without pooch, whatever fetches data; None in this table is Python's own word for "cannot be imported"."""
    before = sys.modules.get("pooch")
    sys.modules["pooch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del sys.modules["pooch"]
        else:
            sys.modules["pooch"] = before


def _missing(message: str) -> dict[str, str]:
    return {"status": "missing", "advice": message.rpartition(": ")[2]}


def place(out: Path) -> Finding:
    """Whether results can be written."""
    nearest = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    try:
        ensure_folder(nearest)
    except OutputError as error:
        return Finding(what="results", found=str(out.resolve()), status="broken", advice=str(error))
    return Finding(what="results", found=f"{out.resolve()} can be written")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
