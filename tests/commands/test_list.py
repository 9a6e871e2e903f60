from __future__ import annotations

import json

import pytest

from tests.commands.calls import Vallis
from vallis.core import catalog


def test_everything_is_listed_with_its_first_line(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    printed = vallis.good("list")
    for kind in catalog.KINDS:
        assert f"\n{kind}\n" in f"\n{printed}"
        for name in catalog.names(kind):
            assert f"  {name} " in printed
            assert catalog.summary(kind, name) in printed


@pytest.mark.parametrize("word", ["model", "models"])
def test_one_kind(vallis: Vallis, word: str) -> None:
    printed = vallis.good("list", word)
    assert "mlp" in printed
    assert "digits" not in printed


def test_json(vallis: Vallis) -> None:
    found = json.loads(vallis.good("list", "--json"))
    assert set(found) == set(catalog.KINDS)
    assert {"name": "mlp", "summary": catalog.summary("models", "mlp")} in found["models"]
    assert list(json.loads(vallis.good("list", "problems", "--json"))) == ["problems"]


def test_lines_fit_the_terminal(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, vallis.good("list").splitlines())) <= 60


@pytest.mark.usefixtures("toys")
def test_a_part_of_another_package_has_no_docstring_to_read(vallis: Vallis) -> None:
    assert "  clouds" in vallis.good("list", "problems")


def test_an_unknown_kind_is_a_sentence(vallis: Vallis) -> None:
    assert "did you mean measurements" in vallis.refused("list", "measurments")
