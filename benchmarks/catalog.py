"""Which benchmarks there are: every module named e<number>_<what>.py or p<number>_<what>.py holds one, as BENCHMARK."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmarks.contest import Benchmark


def modules() -> list[str]:
    return sorted(file.stem for file in Path(__file__).parent.glob("[ep][0-9][0-9]_*.py"))


def benchmarks(only: str = "") -> list[Benchmark]:
    """All of them, or those whose ids are listed, e.g. "E1,E11" (which takes E11a and E11b).

    Raises:
        ValueError: an id is unknown.
    """
    found = [importlib.import_module(f"benchmarks.{name}").BENCHMARK for name in modules()]
    found.sort(key=lambda benchmark: order(benchmark.id))
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if not any(_is(each, name) for each in found):
            raise ValueError(f"a benchmark of {', '.join(each.id for each in found)} was required, {name} came")
    return [each for each in found if not wanted or any(_is(each, name) for name in wanted)]


def order(identity: str) -> tuple[str, int, str]:
    """E1 before E10, and E10 before P1."""
    return identity[0], int("".join(filter(str.isdigit, identity))), identity


def _is(benchmark: Benchmark, name: str) -> bool:
    return name.upper() in (benchmark.id.upper(), benchmark.id.rstrip("ab").upper())
