"""Keeps what the studies found as JSON beside ``docs/studies.md``, and writes the tables of that page from it.

    python docs/_ext/studies.py take out/zhang2017 --commit c2a4a40 --machine "2 cores ..." --cost "..."
    python docs/_ext/studies.py write

The first makes ``docs/studies/NAME.json`` out of the folder that ``vallis study`` wrote. The second fills the places of
the page that are marked ``<!-- verdicts: NAME -->`` and ``<!-- regularizers: NAME -->``, up to ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

DOCS = Path(__file__).resolve().parent.parent
KEPT, PAGE = DOCS / "studies", DOCS / "studies.md"
PLACE = re.compile(r"(<!-- (verdicts|regularizers): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
KEYS = ("train_accuracy", "test_accuracy", "steps")
COLUMNS = ("seed", "measurement", "key", "value", "stderr", "n", "unit", "method", "status", "note")
WORDS = {"holds": "holds", "fails": "**fails**", "undecided": "*undecided*", "not_run": "not run"}


def take(out: Path, **facts: str) -> Path:
    """Keeps the claims of a finished study, and the means of its cells with Student's 95 % intervals over the seeds."""
    held = json.loads((out / "claims.json").read_text(encoding="utf-8"))
    with (out / "table.csv").open(encoding="utf-8", newline="") as file:
        cells = means(csv.DictReader(file))
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    record = {"study": held["study"], "scale": held["scale"], "date": today, **facts}
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{held['study']}.json"
    text = json.dumps({**record, "claims": held["claims"], "cells": cells}, indent=1, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


def means(lines: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """``{"tags": ..., KEY: [mean, half of the interval, n]}`` for each cell."""
    found: dict[tuple[tuple[str, str], ...], dict[str, list[float]]] = {}
    for line in lines:
        if line["measurement"] == "generalization_gap" and line["key"] in KEYS and line["value"]:
            tags = tuple((name, value) for name, value in line.items() if name not in COLUMNS and value)
            found.setdefault(tags, {}).setdefault(line["key"], []).append(float(line["value"]))
    return [{"tags": dict(tags), **{key: interval(held) for key, held in by.items()}} for tags, by in found.items()]


def interval(values: Sequence[float]) -> list[float]:
    """The mean, half of Student's 95 % interval and n."""
    n = len(values)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return [round(float(np.mean(values)), 6), round(half, 6), n]


def page(text: str, kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of the page with its places filled."""
    makers = {"verdicts": verdicts, "regularizers": regularizers}

    def filled(place: re.Match[str]) -> str:
        record = kept.get(place[3])
        return f"{place[1]}\n{makers[place[2]](record) if record else 'Not run yet.'}\n\n{place[4]}"

    return PLACE.sub(filled, text)


def read() -> dict[str, dict[str, Any]]:
    """What is kept, by study."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob("*.json"))}


def verdicts(record: Mapping[str, Any]) -> str:
    """When and on what it was run, how the claims came out, and each of them: a line a claim, a column a data set."""
    claims = record["claims"]
    counts = ", ".join(
        f"{sum(claim['verdict'] == verdict for claim in claims)} {word.strip('*')}" for verdict, word in WORDS.items()
    )
    said = "Scale {scale}, {date}, commit {commit}, {machine}. {cost}".format(**record)
    run = [claim for claim in claims if claim["verdict"] != "not_run"]
    columns = list(dict.fromkeys(claim["about"] for claim in run))
    lines: dict[str, dict[str, str]] = {}
    for claim in run:
        said_of = f"On {claim['about']}" if claim["about"] else ""
        what = re.sub(r"^[:, ]*", "", claim["says"].removeprefix(said_of))
        words = f"{what[:1].upper()}{what[1:].rstrip('.')}" + (f" ({claim['shows']})" if claim["shows"] else "")
        lines.setdefault(words, {})[claim["about"]] = verdict_of(claim)
    rows = [[words, *(cells.get(column, "") for column in columns)] for words, cells in lines.items()]
    heads = ["claim (number)", *(column or "other" for column in columns)]
    return f"{said}\n\nOf {len(claims)} claims: {counts}.\n\n{table(heads, rows)}"


def verdict_of(claim: Mapping[str, Any]) -> str:
    """``holds: 0.998, n=8, p=0.004``."""
    number = "" if claim["statistic"] is None else f" {claim['statistic']:.3g},"
    p = "" if claim["p"] is None else f", p={claim['p']:.2g}" if claim["p"] >= 1e-4 else ", p<0.0001"
    return f"{WORDS[claim['verdict']]}:{number} n={claim['n']}{p}"


def regularizers(record: Mapping[str, Any]) -> str:
    """Tables 1 and 4 of Zhang et al.: every regulariser on true and on random labels."""
    lines: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for cell in record["cells"]:
        tags = cell["tags"]
        if tags["data"].startswith("few_") and tags["pixels"] == "none" and float(tags["labels"]) in (0, 1):
            names = ["weight decay"] if float(tags["weight_decay"]) else []
            names += [] if tags["regularizer"] == "none" else [tags["regularizer"].replace("_", " ")]
            key = tags["data"].replace("_", " "), tags["network"].replace("_", " "), " and ".join(names) or "none"
            lines.setdefault(key, {})["random" if float(tags["labels"]) else "true"] = cell
    asked = (("true", "train_accuracy"), ("true", "test_accuracy"), ("random", "train_accuracy"), ("random", "steps"))
    heads = [f"{labels} labels, {key.replace('_', ' ')}" for labels, key in asked]
    rows = [[*key, *(written(held.get(labels), name) for labels, name in asked)] for key, held in lines.items()]
    return table(["data", "network", "regulariser", *heads], rows)


def written(cell: Mapping[str, Any] | None, key: str) -> str:
    """``0.912 ± 0.004 (8)``."""
    if cell is None:
        return ""
    mean, half, n = cell[key]
    digits = 0 if key == "steps" else 3
    return f"{mean:,.{digits}f} ± {half:,.{digits}f} ({n})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    taking = commands.add_parser("take")
    taking.add_argument("out", type=Path)
    for fact in ("commit", "machine", "cost"):
        taking.add_argument(f"--{fact}", required=True)
    commands.add_parser("write")
    args = parser.parse_args()
    if args.command == "take":
        print(take(args.out, commit=args.commit, machine=args.machine, cost=args.cost))
    else:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")


if __name__ == "__main__":
    main()
