"""`python -m benchmarks [--only E1,E5] [--repeats 5]`, `python -m benchmarks scaling` or `page`: see docs."""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch

from benchmarks import catalog, peak, results, scaling
from benchmarks.contest import Benchmark, hold
from benchmarks.fixtures import Setting
from benchmarks.machine import machine

_WITH_MEMORY = ("E5", "E6")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", nargs="?", default="run", choices=["run", "scaling", "page", "peak", "point"])
    parser.add_argument(
        "words", nargs="*", help="of peak: id, fixture, batch size, contender; of point: width, examples"
    )
    parser.add_argument("--only", default="", help="ids, with commas between them")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds a setting, after which no round starts")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "peak":
        identity, fixture, batch_size, name = given.words
        (benchmark,) = catalog.benchmarks(identity)
        (contender,) = (each for each in benchmark.contenders if each.name == name)
        print(peak.rise(Setting(fixture, int(batch_size)), contender))
        return
    if given.command == "point":
        print(json.dumps(scaling.point(*map(int, given.words))))
        return
    if given.command == "run":
        for benchmark in catalog.benchmarks(given.only):
            results.write(_result(benchmark, given.repeats, given.budget))
    if given.command == "scaling":
        scaling.run()
    results.rewrite()


def _result(benchmark: Benchmark, repeats: int, budget: float) -> dict[str, Any]:
    contests: list[dict[str, Any]] = []
    for setting in benchmark.settings:
        print(f"{benchmark.id} {benchmark.title}: {setting.name}", flush=True)
        missed: list[str] = []
        if benchmark.first_setting_decides and contests:
            missed = [entry["name"] for entry in contests[0]["entries"] if entry["verdict"] != "correct"]
        contest = hold(benchmark, setting, repeats, budget, missed)
        contest["target"] = benchmark.targets.get(setting.fixture, benchmark.target)
        if benchmark.id in _WITH_MEMORY:
            _add_memory(benchmark, setting, contest)
        print(f"  ratio {contest['ratio']} to {contest['best_peer']}, {contest['ratios_to_references']}", flush=True)
        contests.append(contest)
    return {
        "id": benchmark.id,
        "title": benchmark.title,
        "work": benchmark.work,
        "limit": benchmark.limit,
        "compared": benchmark.compared,
        "remarks": list(benchmark.remarks),
        "machine": machine(),
        "contests": contests,
    }


def _add_memory(benchmark: Benchmark, setting: Setting, contest: dict[str, Any]) -> None:
    for contender, entry in zip(benchmark.contenders, contest["entries"], strict=True):
        found = peak.measured(benchmark, setting, contender)
        entry["peak_mebibytes"] = None if found is None else round(found, 1)


if __name__ == "__main__":
    main()
