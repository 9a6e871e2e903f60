"""The benchmarks are whole: code for both sides, results that say on what they were measured, a page made of them."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import catalog, results
from benchmarks.contest import Answer, Benchmark, Contender, Entry, Score, hold, verdict
from benchmarks.fixtures import FIXTURES, Setting
from tests.house.source import ROOT

BENCHMARKS = {benchmark.id: benchmark for benchmark in catalog.benchmarks()}
RESULTS = {result["id"]: result for result in results.read()}
REQUIREMENTS = (ROOT / "benchmarks" / "peers.txt").read_text(encoding="utf-8")


def numbers(value: Any) -> list[float]:
    """All numbers in a tree of JSON."""
    if isinstance(value, dict):
        return [number for held in value.values() for number in numbers(held)]
    if isinstance(value, list):
        return [number for held in value for number in numbers(held)]
    return [value] if isinstance(value, float) else []


def test_every_line_of_the_comparison_has_its_benchmark() -> None:
    assert set(BENCHMARKS) == {
        "E1",
        "E2",
        "E3",
        "E4",
        "E5",
        "E6",
        "E9",
        "E10",
        "E11a",
        "E11b",
        "E12",
        "E16",
        "P1",
        "P2",
    }
    assert len(BENCHMARKS) == len(catalog.modules())


# (Not named "benchmark": the plugin of that name takes it for its fixture.)
@pytest.mark.parametrize("held", BENCHMARKS.values(), ids=BENCHMARKS)
def test_both_sides_have_code(held: Benchmark) -> None:
    roles = [contender.role for contender in held.contenders]
    assert "ours" in roles and "peer" in roles
    sides = [contender for contender in held.contenders if contender.role != "reference"]
    assert all((contender.role == "ours") == (contender.package == "vallis") for contender in sides)
    names = [contender.name for contender in held.contenders]
    assert len(set(names)) == len(names)
    assert all(setting.fixture in FIXTURES for setting in held.settings)


def test_every_peer_is_pinned() -> None:
    packages = {contender.package for each in BENCHMARKS.values() for contender in each.contenders}
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", REQUIREMENTS, re.MULTILINE))
    for package in packages - {"vallis", "torch"}:
        assert any(name.startswith(package) for name in pinned), f"{package} is not pinned in benchmarks/peers.txt"
    assert not {"torch", "torchvision", "numpy"} & set(pinned), "constraints.txt alone chooses these"


def test_results_are_of_benchmarks_and_the_page_says_which_have_none() -> None:
    assert RESULTS and set(RESULTS) <= set(BENCHMARKS)
    text = results.PAGE.read_text(encoding="utf-8")
    for identity, benchmark in BENCHMARKS.items():
        assert (f"{identity} ({benchmark.title})" in text) == (identity not in RESULTS)
        assert (f"## {identity}: {benchmark.title}" in text) == (identity in RESULTS)


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_a_result_says_what_was_measured_and_on_what(result: dict[str, Any]) -> None:
    benchmark = BENCHMARKS[result["id"]]
    assert result["title"] == benchmark.title
    targets = {contest["fixture"]: contest["target"] for contest in result["contests"]}
    assert targets == {name: benchmark.targets.get(name, benchmark.target) for name in targets}
    machine = result["machine"]
    assert {"cpu", "cores", "threads", "python", "packages", "commit", "date"} <= set(machine)
    assert machine["threads"] == 1
    assert machine["packages"]["torch"] and machine["packages"]["curvlinops-for-pytorch"]
    assert all(math.isfinite(number) for number in numbers(result))
    assert [(each["fixture"], each["batch_size"]) for each in result["contests"]] == [
        (setting.fixture, setting.batch_size) for setting in benchmark.settings
    ]


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_a_ratio_follows_from_the_entries_beside_it(result: dict[str, Any]) -> None:
    for contest in result["contests"]:
        names = [entry["name"] for entry in contest["entries"]]
        assert names == [contender.name for contender in BENCHMARKS[result["id"]].contenders]
        amount = "best_seconds" if result["compared"] == "seconds" else "error"
        correct = [entry for entry in contest["entries"] if entry["verdict"] == "correct"]
        ours = [entry[amount] for entry in correct if entry["role"] == "ours"]
        peers = {entry["name"]: entry[amount] for entry in correct if entry["role"] == "peer"}
        if not ours or not peers:
            assert contest["ratio"] is None
            continue
        assert contest["best_peer"] == min(peers, key=lambda name: peers[name])
        assert contest["ratio"] == pytest.approx(min(ours) / min(peers.values()), rel=1e-3, abs=1e-4)


def test_the_page_is_made_of_the_newest_results() -> None:
    expected = results.page(results.read(), results.HEAD.read_text(encoding="utf-8"))
    assert results.PAGE.read_text(encoding="utf-8") == expected, "run `python -m benchmarks page`"


def test_the_scaling_figure_has_its_numbers() -> None:
    points = json.loads((results.RESULTS / "scaling.json").read_text(encoding="utf-8"))["points"]
    assert len({point["num_examples"] for point in points}) >= 3
    sizes = {point["num_parameters"] for point in points}
    assert min(sizes) < 2e3 and max(sizes) >= 1e6
    assert all(point["product_seconds"] > 0 and point["spectrum_mebibytes"] > 0 for point in points)
    assert (ROOT / "docs" / "images" / "scaling.png").is_file()


def entry(name: str, role: Any, seconds: float, outcome: Any) -> Entry:
    return Entry(name=name, package="", role=role, call="", verdict=outcome, error=seconds, seconds=[seconds, 9.0])


def test_only_a_correct_peer_is_the_best() -> None:
    entries = [
        entry("ours", "ours", 2.0, "correct"),
        entry("Vallis", "ours", 3.0, "correct"),
        entry("fast and wrong", "peer", 1.0, "misses"),
        entry("slow and right", "peer", 4.0, "correct"),
        entry("floor", "reference", 1.0, "correct"),
    ]
    ratios = {"ratio": 0.5, "ratio_by_default": 0.75, "ratios_to_references": {"floor": 2.0}}
    assert verdict(entries, "seconds") == {"best_peer": "slow and right", **ratios}
    entries[1].verdict = "misses"
    assert verdict(entries, "seconds")["ratio_by_default"] is None
    entries[0].verdict = "misses"
    assert verdict(entries, "seconds")["ratio"] is None


def test_a_peer_that_was_not_there_did_not_fail() -> None:
    absent = entry("absent", "peer", 0.0, "raised")
    absent.seconds, absent.error, absent.message = [], None, "ModuleNotFoundError: No module named 'absent'"
    broken = replace(absent, name="broken", message="RuntimeError: no")
    (result,) = (copy.deepcopy(held) for identity, held in RESULTS.items() if identity == "E9")
    result["contests"][0]["entries"] = [absent.plain(), broken.plain()]
    text = results.page([result], "")
    assert "| absent | `` | not run: its package was not installed |" in text
    assert "| broken | `` | raised RuntimeError: no |" in text


def contender(name: str, role: Any, answers: list[float]) -> Contender:
    """Gives these answers one after the other, then the last again and again; an empty list raises."""

    def run() -> Answer:
        return Answer(answers.pop(0) if len(answers) > 1 else answers[0], 3)

    return Contender(name, "vallis" if role == "ours" else "torch", role, name, lambda _: run)


def test_one_miss_in_any_repeat_is_a_miss() -> None:
    setting = Setting("D-MLP-32", 599)
    benchmark = Benchmark(
        id="E0",
        title="",
        work="",
        limit="",
        target=1.0,
        settings=(setting,),
        contenders=(
            contender("ours", "ours", [0.0]),
            contender("steady", "peer", [0.5]),
            contender("wavers", "peer", [0.0, 0.0, 2.0, 0.0]),
            contender("breaks", "peer", []),
        ),
        judge=lambda _, answer, thorough: Score(answer.value, answer.value < 1.0),
    )
    found = hold(benchmark, setting, repeats=4)
    verdicts = {each["name"]: (each["verdict"], each["error"]) for each in found["entries"]}
    assert verdicts == {
        "ours": ("correct", 0.0),
        "steady": ("correct", 0.5),
        "wavers": ("misses", 2.0),
        "breaks": ("raised", None),
    }
    assert found["best_peer"] == "steady"
    assert [len(each["seconds"]) for each in found["entries"]] == [4, 4, 4, 0]
    known_wrong = hold(benchmark, setting, repeats=1, missed=["steady", "wavers"])
    assert known_wrong["best_peer"] is None and known_wrong["ratio"] is None


def test_ids_are_chosen_by_name() -> None:
    assert [each.id for each in catalog.benchmarks("E11, e5")] == ["E5", "E11a", "E11b"]
    with pytest.raises(ValueError, match="E99 came"):
        catalog.benchmarks("E99")
