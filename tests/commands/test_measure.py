from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.calls import Vallis

TOYS = ("clouds", "--model", "linear", "--training", "descent")

pytestmark = pytest.mark.usefixtures("toys")


def values(printed: str) -> dict[str, dict[str, object]]:
    held = json.loads(printed)
    assert held["status"] == "ok"
    found: dict[str, dict[str, object]] = held["values"]
    return found


def test_an_answer_in_words_and_numbers(vallis: Vallis) -> None:
    printed = vallis.good("measure", "norm", *TOYS)
    assert printed.startswith("norm  A toy says nothing.")
    assert "\n  norm: " in printed
    assert "\n  weights: array 6 over weight" in printed
    assert "\n  note toy: It is a toy." in printed
    assert Path("out/store/objects").is_dir()


def test_an_answer_as_json(vallis: Vallis) -> None:
    found = values(vallis.good("measure", "norm", *TOYS, "--json", "--norm.order", "1"))
    weights = found["weights"]["data"]
    assert isinstance(weights, list)
    assert found["norm"]["value"] == pytest.approx(sum(map(abs, weights)))
    assert found["weights"]["coords"] == {"weight": [i / 3 for i in range(6)]}


def test_a_trajectory(vallis: Vallis) -> None:
    found = values(vallis.good("measure", "way", *TOYS, "--json", "--snapshots", "0,2"))
    assert found["norm"]["coords"] == {"step": [0.0, 2.0, 5.0]}


def test_a_pair(vallis: Vallis) -> None:
    found = values(vallis.good("measure", "distance", *TOYS, "--json", "--partner-seed", "1"))
    assert found["distance"]["value"] > 0  # type: ignore[operator]


def test_the_last_step_is_a_snapshot_like_any_other(vallis: Vallis) -> None:
    found = values(vallis.good("measure", "way", *TOYS, "--json", "--snapshots", "0,5"))
    assert found["norm"]["coords"] == {"step": [0.0, 5.0]}


def test_one_that_watches(vallis: Vallis) -> None:
    assert "  steps: 5\n" in vallis.good("measure", "count", *TOYS)


def test_not_applicable_is_a_result(vallis: Vallis) -> None:
    assert "needs_trait: curved needs a network that is binary" in vallis.good("measure", "curved", *TOYS)


def test_a_failure_fails(vallis: Vallis) -> None:
    done = vallis("measure", "broken", *TOYS)
    assert (done.code, done.err) == (1, "")
    assert "ZeroDivisionError: nothing can be divided by this" in done.out
    assert vallis("measure", "norm", *TOYS, "--training.fail_at", "0").code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("measure",), "measurement"),
        (("measure", "norm", "mine.py:network"), "your own network is measured by vallis examine mine.py:network"),
        (("measure", "nrom"), "did you mean norm"),
        (("measure", "norm", *TOYS, "--norm.ordre", "1"), "did you mean order"),
        (("measure", "norm", *TOYS, "--margins.split", "x"), "no option prefix is named '--margins.'"),
        (("measure", "way", *TOYS, "--snapshots", "a"), "--snapshots must be whole numbers"),
        (("measure", "way", *TOYS, "--snapshots", "1.5"), "--snapshots must be whole numbers"),
        (("measure", "way", *TOYS, "--snapshots", "0,,2"), "--snapshots must be whole numbers"),
        (("measure", "way", *TOYS, "--snapshots=0,-1"), "--snapshots must be at steps from 0 on, -1 came"),
        (("measure", "way", *TOYS, "--snapshots", "0,9,5"), "--snapshots at steps 0..5 were required, 9 came"),
        (("measure", "norm", *TOYS, "--snapshots", "1"), "norm takes a solution: leave it out"),
        (("measure", "distance", *TOYS), "takes a pair: name its seed with --partner-seed"),
        (("measure", "norm", *TOYS, "--partner-seed", "1"), "norm takes a solution: leave it out"),
        (("measure", "norm", *TOYS, "--threads", "0"), "at least one thread was required, --threads 0 came"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(vallis: Vallis, words: tuple[str, ...], said: str) -> None:
    assert said in vallis.refused(*words)


def test_help_shows_the_settings_of_the_measurement(vallis: Vallis) -> None:
    printed = vallis.good("measure", "norm", "--help")
    assert "--norm.order FLOAT  (default: 2.0)" in printed
