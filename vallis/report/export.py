"""Keeps the figures of a report as data beside it, to draw them again for a paper without measuring again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vallis.core import files
from vallis.core.errors import StoreError, UsageError
from vallis.core.figures import Figure
from vallis.report import prose
from vallis.report.figure import FORMATS, SURFACE_FORMATS, from_plain, save, to_plain
from vallis.report.vtk import has_surface

NAME = "figures.json"
SCHEMA = 1


def write_figures(out: Path, figures: Sequence[Figure]) -> Path:
    """Writes ``figures.json``, from which `load_figures` reads the figures back.

    Raises:
        OutputError: the folder cannot be written.
        ValueError: the arrays of a mark do not fit together.
    """
    return files.write_json(out / NAME, {"schema": SCHEMA, "figures": [to_plain(figure) for figure in figures]})


def load_figures(out: str | os.PathLike[str]) -> list[Figure]:
    """The figures of a report's folder, as data.

    Raises:
        UsageError: the folder holds no report.
        StoreError: its ``figures.json`` cannot be read.
    """
    path = Path(out) / NAME
    if not path.is_file():
        raise UsageError(f"the folder of a report was required, but {path} is not there: give the folder of a report")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return [from_plain(figure) for figure in held["figures"]]
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise StoreError(
            f"figures as JSON were required, but {path} holds none ({error}): make the report anew"
        ) from error


def export(out: str | os.PathLike[str], formats: Iterable[str] = ("pdf",)) -> list[Path]:
    """Writes every figure of a report in every format, as ``figures/NAME.FORMAT`` in the report's folder.

    Args:
        out: the folder of a report or of a study.
        formats: of "pdf", "svg", "png", "csv", and "vtk", as which only figures with a surface are written.

    Raises:
        UsageError: a format is unknown, the folder holds no report, or matplotlib is needed and not installed.
        OutputError: the folder cannot be written.
        StoreError: the report's ``figures.json`` cannot be read.
    """
    wanted = list(dict.fromkeys(formats))
    known = FORMATS + SURFACE_FORMATS
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(f"formats among {', '.join(known)} were required, {unknown[0]!r} came: choose from these")
    figures = load_figures(out)
    folder = files.ensure_folder(Path(out) / "figures")
    taken: set[str] = set()
    named = [(prose.unique(prose.slug(figure.name), taken), figure) for figure in figures]
    return [
        save(figure, folder / f"{name}.{suffix}")
        for name, figure in named
        for suffix in wanted
        if suffix not in SURFACE_FORMATS or has_surface(figure)
    ]
