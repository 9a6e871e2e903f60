from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.commands.calls import Vallis
from tests.commands.conftest import Install
from vallis.core.rng import Rng
from vallis.core.types import Failed, NotApplicable, Note, Outcome

SIZES = ("--memorizing_network.sizes", "20,40", "--memorizing_network.depths", "2,3")


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """Says nothing."""

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Any, ...]] = ()

    fails: bool = False

    def compute(self, rng: Rng) -> Outcome:
        if self.fails:
            return Failed(error="Broken", message="it broke")
        return NotApplicable(note=Note(code="nothing", text="There is nothing to say."))


def test_it_says_what_it_found_and_writes_the_page(vallis: Vallis) -> None:
    printed = vallis.good("theory", "memorizing_network", *SIZES)
    assert "takes the values of all 40 examples" in " ".join(printed.split())
    assert "  largest_error: " in printed and printed.endswith("page: out/memorizing_network/report.html\n")
    page = Path("out/memorizing_network/report.html").read_text()
    assert "<title>memorizing_network – Vallis</title>" in page
    assert "What rounding leaves of a network that memorises" in page and "measurements came through" not in page
    held = json.loads(Path("out/memorizing_network/report.json").read_text())
    assert held["results"]["memorizing_network"]["values"]["largest_error"]["n"] == 40
    assert vallis.good("report", "out/memorizing_network", "--figures", "csv").count(".csv") == 2


def test_the_same_seed_gives_the_same_numbers_for_programs(vallis: Vallis) -> None:
    one, again, other = (
        vallis.good("theory", "memorizing_network", *SIZES, "--json", "--seed", seed) for seed in (0, 0, 1)
    )
    assert one == again != other
    assert json.loads(one)["values"]["largest_error"]["n"] == 40
    assert not Path("out").exists()


def test_outcomes_without_a_value_are_said(vallis: Vallis, install: Install) -> None:
    install("theory", "tests.commands.test_theory", nothing="Nothing")
    assert "nothing: There is nothing to say." in vallis.good("theory", "nothing")
    assert "There is nothing to say." in Path("out/nothing/report.html").read_text()
    done = vallis("theory", "nothing", "--nothing.fails", "true", "--out", "bad")
    assert done.code == 1 and "it broke" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("memorising_network",), "no theory is named 'memorising_network'; did you mean memorizing_network"),
        (("memorizing_network", "--memorizing_network.size", "3"), "did you mean sizes"),
        (("memorizing_network", "--problem.base", "digits"), "no option prefix"),
        (("memorizing_network", "--memorizing_network.sizes", "40,20"), "must rise"),
        (("memorizing_network", "--threads", "0"), "at least one thread"),
    ],
)
def test_what_cannot_be_computed_is_one_sentence(vallis: Vallis, words: tuple[str, ...], said: str) -> None:
    assert said in vallis.refused("theory", *words)


def test_its_help_has_its_settings(vallis: Vallis) -> None:
    assert "--memorizing_network.sizes" in vallis.good("theory", "memorizing_network", "--help")
