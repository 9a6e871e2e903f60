"""Writes the report of an examination: ``report.html`` for people, its twin and its figures for machines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vallis.core import files
from vallis.core.numbers import Written, written
from vallis.core.types import Array, Estimate, Outcome, Result
from vallis.report import prose, table
from vallis.report.export import write_figures
from vallis.report.render import Gallery, render
from vallis.report.section import Examined, Section, certainty, sections

# What ids a page already has; a measurement of such a name gets another.
RESERVED = ("top", "theme", "reading", "claims", "figures", "cells", "vallis-data")
_SPLITS = ("train", "test", "validation", "poison", "test_large")
_METRICS = ("loss", "accuracy", "error")
_ABOUT = ("Says little when", "Cost")


def write_examination(
    out: str | os.PathLike[str],
    solution_facts: Mapping[str, Any],
    measured: Sequence[tuple[Any, Outcome]],
    *,
    vallis_version: str,
) -> Path:
    """Writes the whole report of an examination into a folder; the same results give the same bytes.

    Args:
        out: the folder; made if it is not there.
        solution_facts: "problem", "model", "parameters", "digest" and whatever else is known, in the order to show it.
            Losses and accuracies ("train_loss") come out large; those that are missing are taken from `measured`.
        measured: each part (a measurement or a theory) with its outcome.
        vallis_version: what made them.

    Returns:
        The path of ``report.html``, which is written last.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = files.ensure_folder(out)
    found = sections(measured)
    table.write_results(folder, solution_facts, found, vallis_version=vallis_version)
    write_figures(folder, [figure for section in found for figure in section.figures])
    return write_report(folder, Examined.of(solution_facts), found, vallis_version=vallis_version)


def write_report(out: Path, examined: Examined, found: Sequence[Section], *, vallis_version: str) -> Path:
    """Writes ``report.html`` alone.

    Raises:
        OutputError: the folder cannot be written.
    """
    gallery = Gallery()
    taken = set(RESERVED)
    entries = [_entry(section, gallery, taken) for section in found]
    short, long = _facts(examined)
    context = {
        "version": vallis_version,
        "examined": examined,
        "tiles": _tiles(examined, found),
        "short_facts": short,
        "long_facts": long,
        "tally": tally(section.status for section in found),
        "readings": [entry for entry in entries if entry["reading"]],
        "entries": entries,
    }
    return files.write_text(out / "report.html", render("report.html", context, gallery.figures))


def tally(statuses: Iterable[str]) -> str:
    """How many questions were answered, in a sentence."""
    found = list(statuses)
    ok, none, failed = (found.count(word) for word in ("ok", "not_applicable", "failed"))
    if not found:
        return "Nothing was measured."
    if ok == len(found):
        return "One measurement, and it came through." if ok == 1 else f"All {ok} measurements came through."
    rest = [f"{none} {'does' if none == 1 else 'do'} not apply"] * bool(none) + [f"{failed} failed"] * bool(failed)
    return f"{ok} of {len(found)} measurements came through; {', '.join(rest)}."


def _entry(section: Section, gallery: Gallery, taken: set[str]) -> dict[str, Any]:
    values = section.outcome.values if isinstance(section.outcome, Result) else {}
    paths = table.array_files(section)
    return {
        "id": prose.unique(prose.slug(section.name), taken),
        "title": section.title,
        "status": section.status,
        "doc": section.doc,
        "definition": prose.sentence(section.doc.labelled.get("Definition", "")),
        "source": prose.sentence(section.doc.labelled.get("Source", "")),
        "reading": section.reading,
        "certainty": certainty(section),
        "codes": [prose.words(note.code) for note in section.notes],
        "notes": section.notes,
        "drawn": [gallery.add(figure) for figure in section.figures],
        "estimates": [(key, value) for key, value in values.items() if isinstance(value, Estimate)],
        "arrays": [_array(key, value, paths[key]) for key, value in values.items() if isinstance(value, Array)],
        "about": [
            (label, prose.sentence(section.doc.labelled[label])) for label in _ABOUT if label in section.doc.labelled
        ],
        "sources": section.sources,
        "settings": section.settings,
    }


def _array(key: str, array: Array, file: str) -> dict[str, Any]:
    data = np.asarray(array.data)
    size = " × ".join(map(str, data.shape))
    known = data[np.isfinite(data)] if np.issubdtype(data.dtype, np.number) else np.array([])
    span = [written(float(end), digits=3) for end in (known.min(), known.max())] if known.size else []
    return {"key": key, "shape": f"{size} ({', '.join(array.dims)})", "range": span, "unit": array.unit, "file": file}


def _tiles(examined: Examined, found: Sequence[Section]) -> list[tuple[str, Written]]:
    """What is large on the first screen: the size, and losses and accuracies, told by the facts or measured."""
    known = {key: written(value) for key, value in examined.facts.items() if _is_metric(key, value)}
    for section in found:
        values = section.outcome.values if isinstance(section.outcome, Result) else {}
        for key, value in values.items():
            split, _, metric = key.rpartition("_")
            if split in _SPLITS and metric in ("loss", "accuracy") and isinstance(value, Estimate):
                known.setdefault(key, written(value.value, value.stderr))
    order = sorted(known, key=lambda key: [key.endswith(metric) for metric in _METRICS], reverse=True)
    size = [] if examined.parameters is None else [("Parameters", written(examined.parameters))]
    return [*size, *((prose.title(key), known[key]) for key in order)]


def _is_metric(key: str, value: Any) -> bool:
    return key.endswith(_METRICS) and isinstance(value, (int, float)) and not isinstance(value, bool)


def _facts(examined: Examined) -> tuple[list[str], list[tuple[str, str]]]:
    """All other facts: the short ones in words for one line, the long ones for lines of their own."""
    short: list[str] = []
    long: list[tuple[str, str]] = []
    for key, value in examined.facts.items():
        if _is_metric(key, value):
            continue
        split = key.removeprefix("num_")
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        said = str(written(value)) if is_number else prose.setting(value)
        if split != key and split in _SPLITS:
            short.append(f"{said} {prose.words(split)} examples")
        elif len(said) <= 24 and len(short) < 7:
            short.append(f"{prose.words(key)} {said}")
        else:
            long.append((prose.words(key), said))
    return short, long
