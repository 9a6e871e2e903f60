"""Writes the page of a study: the paper, its claims with verdicts and evidence, the figures, what was measured."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vallis import __version__
from vallis.core import files, spec
from vallis.core.figures import Figure
from vallis.core.types import Claim, Estimate, Note, Result, Row, Verdict
from vallis.report import claims_board, prose, table
from vallis.report.clean import coerced
from vallis.report.export import write_figures
from vallis.report.render import Gallery, render

_SCALES = {
    "smoke": "This was a smoke run: it shows that everything works. Networks so few and so small decide nothing, "
    "whatever a verdict says.",
    "laptop": "This was run at laptop scale, smaller than in the paper.",
    "paper": "This was run at the scale of the paper.",
}


def write_study(
    out: str | os.PathLike[str],
    study: Any,
    scale: str,
    claims_with_verdicts: Sequence[tuple[Claim, Verdict]],
    rows: Sequence[Row],
    figures: Sequence[Figure],
    facts: Mapping[str, Any],
) -> Path:
    """Writes ``study.html``, ``claims.json``, ``table.csv`` (and ``.parquet``) and ``figures.json`` into a folder.

    Args:
        out: the folder; made if it is not there.
        study: the study that was run.
        scale: at which scale.
        claims_with_verdicts: its claims, each with what the evidence says; no claim's rule is run here.
        rows: all finished or failed measurements.
        figures: what ``study.figures(rows)`` gave.
        facts: what else to say on top, such as ``{"networks": 24}``.

    Returns:
        The path of ``study.html``, which is written last.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = files.ensure_folder(out)
    name = spec.name_of(study)
    drawable, remarks = _drawable(figures)
    table.write_claims(folder, name, scale, claims_with_verdicts)
    table.write_table(folder, rows)
    write_figures(folder, drawable)
    gallery = Gallery()
    tables = cell_tables(rows)
    context = {
        "version": __version__,
        "title": prose.title(name),
        "name": name,
        "source": type(study).source,
        "scale": scale,
        "scale_says": _SCALES.get(scale, f"This was run at the scale {scale}."),
        "facts": [(prose.words(key), prose.setting(value)) for key, value in facts.items()],
        "tally": _tally([verdict for _, verdict in claims_with_verdicts]),
        "board": claims_board.board(claims_with_verdicts),
        "claims": [claims_board.shown(*held) for held in claims_board.rest(claims_with_verdicts)],
        "drawn": [gallery.add(figure) for figure in drawable],
        "remarks": remarks,
        "tables": tables,
        "entries": _contents(bool(drawable)),
    }
    return files.write_text(folder / "study.html", render("study.html", context, gallery.figures))


def cell_tables(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A table for each measurement: a line for each cell (all that share their tags), a column for each value."""
    tables = []
    for measurement in dict.fromkeys(row.measurement for row in rows):
        own = [row for row in rows if row.measurement == measurement]
        columns: dict[str, str] = {}
        cells: dict[tuple[tuple[str, str], ...], list[Row]] = {}
        for row in own:
            cells.setdefault(_tags(row), []).append(row)
            columns |= {key: value.unit for key, value in _estimates(row).items()}
        lines = [_line(tags, held, list(columns)) for tags, held in cells.items()]
        heads = [{"key": key, "unit": unit} for key, unit in columns.items()]
        tables.append({"title": prose.title(measurement), "columns": heads, "rows": lines})
    return tables


def _tags(row: Row) -> tuple[tuple[str, str], ...]:
    """Names and values, but for what is "none": most cells of most studies lack most things."""
    written_out = ((tag, f"{value:g}" if isinstance(value, float) else str(value)) for tag, value in row.tags.items())
    return tuple((tag, value) for tag, value in written_out if value not in ("none", ""))


def _contents(has_figures: bool) -> list[dict[str, str]]:
    parts = [
        ("claims", "The claims"),
        *([("figures", "Figures")] if has_figures else []),
        ("cells", "What was measured"),
    ]
    return [{"id": place, "title": title, "status": "ok"} for place, title in parts]


def _drawable(figures: Sequence[Figure]) -> tuple[list[Figure], list[Note]]:
    drawable, remarks = [], []
    for figure in figures:
        try:
            coerced(figure)
            drawable.append(figure)
        except Exception as error:  # one broken figure must not lose the page
            text = f"The figure {figure.name} could not be drawn ({type(error).__name__}: {error})."
            remarks.append(Note(code="figure_failed", text=text))
    return drawable, remarks


def _tally(verdicts: Sequence[Verdict]) -> str:
    words = {"holds": ("holds", "hold"), "fails": ("fails", "fail"), "undecided": ("is undecided", "are undecided")}
    words["not_run"] = ("was not run", "were not run")
    said = []
    for verdict, (one, many) in words.items():
        number = sum(held.verdict == verdict for held in verdicts)
        if number:
            said.append(f"{number} {one if number == 1 else many}")
    return f"Of {len(verdicts)} claims, {', '.join(said)}." if said else "This study makes no claims."


def _estimates(row: Row) -> dict[str, Estimate]:
    values = row.outcome.values if isinstance(row.outcome, Result) else {}
    return {key: value for key, value in values.items() if isinstance(value, Estimate)}


def _line(tags: tuple[tuple[str, str], ...], held: Sequence[Row], keys: Sequence[str]) -> dict[str, Any]:
    ok = [row for row in held if isinstance(row.outcome, Result)]
    lost = len(held) - len(ok)
    cells = [_mean([estimates[key] for row in ok if key in (estimates := _estimates(row))]) for key in keys]
    return {"tags": tags, "num_ok": len(ok), "lost": f"({lost} lost)" if lost else "", "cells": cells}


def _mean(estimates: Sequence[Estimate]) -> tuple[float | None, float | None]:
    known = [estimate for estimate in estimates if math.isfinite(estimate.value)]
    if not known:
        return None, None
    if len(known) == 1:
        return known[0].value, known[0].stderr
    mean = math.fsum(estimate.value for estimate in known) / len(known)
    spread = math.fsum((estimate.value - mean) ** 2 for estimate in known) / (len(known) - 1)
    return mean, math.sqrt(spread / len(known))
