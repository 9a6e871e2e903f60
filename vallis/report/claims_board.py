"""Claims and their verdicts for a study's page: those made of several things as one board, the others as a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vallis.core.numbers import probability, written
from vallis.core.types import Claim, Verdict

VERDICTS = {"holds": "holds", "fails": "fails", "undecided": "undecided", "not_run": "not run"}
Judged = tuple[Claim, Verdict]


def evidence(verdict: Verdict) -> str:
    """A verdict with what it rests on: ``holds (n=10, p=0.003)``."""
    word, said = VERDICTS[verdict.verdict], basis(verdict)
    return f"{word} ({said})" if said else word


def basis(verdict: Verdict) -> str:
    """What a verdict rests on: ``n=10, p=0.003``; empty where nothing was run."""
    if verdict.verdict == "not_run":
        return ""
    return ", ".join(filter(None, [f"n={verdict.n}", probability(verdict.p)]))


def shown(claim: Claim, verdict: Verdict) -> dict[str, Any]:
    """What a page says of a claim."""
    number = "" if verdict.statistic is None else str(written(verdict.statistic, digits=3))
    said = {"id": claim.id, "says": claim.says, "where": claim.where, "shows": claim.shows or "statistic"}
    evidence_of = {"chip": evidence(verdict), "word": VERDICTS[verdict.verdict], "basis": basis(verdict)}
    return {**said, **evidence_of, "verdict": verdict.verdict, "statistic": number}


def board(claims: Sequence[Judged]) -> dict[str, Any] | None:
    """A line for what is claimed, a column for each thing that it is claimed of; None where nothing is of that kind.

    Only lines and columns in which something was run.
    """
    run = [held for held in claims if _is_on_board(held)]
    if not run:
        return None
    columns = list(dict.fromkeys(claim.about for claim, _ in run))
    lines: dict[str, dict[str, Any]] = {}
    for claim, verdict in run:
        what = _what(claim)
        line = {"says": what, "where": claim.where, "shows": claim.shows, "cells": {}}
        lines.setdefault(what, line)["cells"][claim.about] = shown(claim, verdict)
    rows = [{**line, "cells": [line["cells"].get(column) for column in columns]} for line in lines.values()]
    return {"columns": [column.removeprefix("the ") for column in columns], "rows": rows}


def rest(claims: Sequence[Judged]) -> list[Judged]:
    """Those that are on no board."""
    return [held for held in claims if not _is_on_board(held)]


def _is_on_board(held: Judged) -> bool:
    claim, verdict = held
    return bool(claim.about) and verdict.verdict != "not_run"


def _what(claim: Claim) -> str:
    """The claim without what it is about."""
    words = claim.says.removeprefix(f"On {claim.about}").lstrip(":, ")
    return words[:1].upper() + words[1:]
