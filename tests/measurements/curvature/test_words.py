from __future__ import annotations

import pytest

from vallis.measurements.curvature._words import counted, listed, shown_name, spoken_name


@pytest.mark.parametrize(("number", "said"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (1234, "1,234 layers")])
def test_one_is_singular(number: int, said: str) -> None:
    assert counted(number, "layer") == said


@pytest.mark.parametrize(
    ("words", "said"), [("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"), ("abcde", "a, b, c and 2 more")]
)
def test_lists_end_in_and(words: str, said: str) -> None:
    assert listed(list(words), 3) == said


def test_a_list_is_whole_unless_it_may_be_too_long() -> None:
    assert listed(list("abcde")) == "a, b, c, d and e"


def test_a_network_that_is_its_own_layer() -> None:
    assert [spoken_name(shown_name(name)) for name in ("", "head")] == ["the root module", "layer head"]
