"""Results on disk, one JSON a benchmark, and the page of the docs that is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.catalog import benchmarks, order
from benchmarks.fixtures import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = ROOT / "benchmarks" / "page.md"


def write(result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Writes a result under its id."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{result['id']}.json"
    file.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return file


def read(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All results of benchmarks, E1 before E10."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("[EP]*.json")]
    return sorted(found, key=lambda result: order(result["id"]))


def page(results: list[dict[str, Any]], head: str) -> str:
    """The page: what was written by hand, the table of ratios, and one section a benchmark."""
    parts = [head.rstrip(), "## Ratios", *_ratios(results), *_missing(results)]
    for result in results:
        parts += _section(result)
    return "\n\n".join(parts) + "\n"


def rewrite() -> None:
    """Makes the page anew from the results that lie there."""
    PAGE.write_text(page(read(), HEAD.read_text(encoding="utf-8")), encoding="utf-8")


def _ratios(results: list[dict[str, Any]]) -> list[str]:
    rows = [
        "| id | work | setting | best correct peer | ours / peer | with our defaults | target | ours / references |",
        "|" + " --- |" * 8,
    ]
    for result in results:
        for contest in result["contests"]:
            references = ", ".join(f"{value:.2f} of {name}" for name, value in contest["ratios_to_references"].items())
            cells = (
                result["id"],
                result["title"],
                f"{contest['fixture']}, batches of {contest['batch_size']}",
                contest["best_peer"] or "none is correct",
                _ratio(contest["ratio"], contest["target"], result["compared"]),
                _ratio(contest.get("ratio_by_default"), contest["target"], result["compared"]),
                f"{contest['target']:g}",
                references,
            )
            rows.append(_row(cells))
    return ["\n".join(rows)]


def _missing(results: list[dict[str, Any]]) -> list[str]:
    """Which benchmarks have no result, if any."""
    done = {result["id"] for result in results}
    names = [f"{each.id} ({each.title})" for each in benchmarks() if each.id not in done]
    return [f"Not measured yet: {', '.join(names)}."] if names else []


def _ratio(ratio: float | None, target: float, compared: str) -> str:
    if ratio is None:
        return ""
    text = f"{ratio:.2f}" + (" (of errors)" if compared == "error" else "")
    return f"**{text}**" if ratio <= target else text


def _section(result: dict[str, Any]) -> list[str]:
    machine = result["machine"]
    parts = [f"## {result['id']}: {result['title']}", f"Work: {result['work']}. Right is: {result['limit']}."]
    parts += result["remarks"]
    for contest in result["contests"]:
        title = f"{contest['fixture']}, batches of {contest['batch_size']}"
        has_peak = any(entry.get("peak_mebibytes") is not None for entry in contest["entries"])
        parts += [f"### {result['id']} on {title}", "\n".join(_table(contest["entries"], has_peak))]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    parts.append(
        f"{machine['cpu']}, {machine['cores']} cores of which {machine['threads']} was used, load {machine['load']:g}; "
        f"Python {machine['python']}, {packages}; commit {machine['commit']}, {machine['date']}."
    )
    return parts


def _table(entries: list[dict[str, Any]], has_peak: bool) -> list[str]:
    names = ["who", "call", "verdict", "error", "products", "best s", "median s", "n"] + ["peak MiB"] * has_peak
    rows = [_row(tuple(names)), "|" + " --- |" * len(names)]
    for entry in entries:
        cells = [
            f"**{entry['name']}**" if entry["role"] == "ours" else entry["name"],
            f"`{entry['call']}`",
            _outcome(entry),
            ""
            if entry["error"] is None or (entry["role"] == "reference" and not entry["error"])
            else _short(entry["error"]),
            _short(entry["num_products"]),
            _short(entry["best_seconds"]),
            _short(entry["median_seconds"]),
            str(len(entry["seconds"])),
        ]
        rows.append(_row((*cells, *[_short(entry.get("peak_mebibytes"))] * has_peak)))
    return rows


def _outcome(entry: dict[str, Any]) -> str:
    if entry["message"].startswith(ModuleNotFoundError.__name__):
        return "not run: its package was not installed"
    if entry["verdict"] == "raised":
        return f"raised {entry['message']}"
    return "reference" if entry["role"] == "reference" else str(entry["verdict"])


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
