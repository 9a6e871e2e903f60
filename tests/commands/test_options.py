from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from vallis.commands.options import Tree, assemble, attributes, only, read, settings_of, split
from vallis.core.errors import SettingsError, UsageError
from vallis.core.protocols import Problem
from vallis.problems.corrupted import Corrupted
from vallis.problems.digits import Digits
from vallis.problems.subset import Subset


def tree(*words: str) -> Tree:
    found, rest = split(words)
    assert rest == []
    return found


def test_dotted_options_are_taken_out_and_the_rest_is_left() -> None:
    words = ["digits", "--model.widths", "64,64", "--seed", "1", "--problem.test_fraction=0.5", "-h", "a.b"]
    found, rest = split(words)
    assert rest == ["digits", "--seed", "1", "-h", "a.b"]
    assert found.at("model").at("widths").value == "64,64"
    assert found.at("problem").at("test_fraction").value == "0.5"
    assert found.at("nothing").at("here").value is None


def test_values_may_begin_with_a_dash_or_be_empty() -> None:
    found = tree("--a.x", "-1", "--a.y=", "--a.z", "--b.c")
    assert [found.at("a").at(name).value for name in "xyz"] == ["-1", "", "--b.c"]


def test_dashes_in_names_are_underscores() -> None:
    assert tree("--training.learning-rate", "1").at("training").at("learning_rate").value == "1"


@pytest.mark.parametrize(
    ("words", "said"), [(["--a.b"], "a value was required after --a.b"), (["--a.b=1", "--a.b=2"], "given twice")]
)
def test_an_option_has_one_value(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        split(words)


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "5", 5),
        (int, "1e3", 1000),
        (float, "0.1", 0.1),
        (float, "1", 1.0),
        (bool, "true", True),
        (bool, "False", False),
        (str, "5", "5"),
        (str, "none", "none"),
        (str, "a,b", "a,b"),
        (int | None, "none", None),
        (int | None, "3", 3),
        (str | None, "None", None),
        (float | str, "0.5", 0.5),
        (float | str, "auto", "auto"),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (tuple[int, ...], "64,32", (64, 32)),
        (tuple[int, ...], "64", (64,)),
        (tuple[int, ...], "", ()),
        (tuple[int, ...], "[64, 32]", (64, 32)),
        (tuple[str, ...], "1, b", ("1", "b")),
        (tuple[float, float], "0.1,-2", (0.1, -2.0)),
        (frozenset[str], "a,b", frozenset({"a", "b"})),
        (tuple[tuple[int, int], ...], "[[1,2],[3,4]]", ((1, 2), (3, 4))),
        (Mapping[str, float], '{"a": 1}', {"a": 1.0}),
    ],
)
def test_texts_are_read_as_the_type_of_the_field(hint: Any, text: str, value: Any) -> None:
    found = read(hint, text)
    assert found == value
    assert type(found) is type(value)


def test_what_fits_nothing_stays_text_for_the_part_to_refuse() -> None:
    assert read(int, "many") == "many"
    assert read(tuple[int, ...], "1,b") == "1,b"


def test_a_part_with_its_settings() -> None:
    assert assemble("problems", "digits", tree("--test_fraction.x=1").at("no")) == Digits()
    found = assemble("problems", "digits", tree("--problem.test_fraction", "0.5").at("problem"))
    assert found == Digits(test_fraction=0.5)


def test_a_part_that_holds_a_part() -> None:
    words = ["--problem.base", "digits", "--problem.base.test_fraction", "0.5", "--problem.labels=1"]
    assert assemble("problems", "corrupted", tree(*words).at("problem")) == Corrupted(
        base=Digits(test_fraction=0.5), labels=1.0
    )


def test_a_part_that_holds_a_part_that_holds_a_part() -> None:
    words = ["--p.base=subset", "--p.base.num_train=40", "--p.base.base=digits", "--p.labels=0.5"]
    found = assemble("problems", "corrupted", tree(*words).at("p"))
    assert found == Corrupted(base=Subset(base=Digits(), num_train=40), labels=0.5)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A part with everything.

    Attributes:
        inner: a problem,
            on two lines.
        words: (of no importance): many.

    Not an attribute: this.
    """

    version: ClassVar[int] = 1

    inner: Problem = Digits(test_fraction=0.3)
    words: Mapping[str, int] = field(default_factory=lambda: {"a": 1})
    choice: Literal["one", "two"] = "one"
    sizes: tuple[int, ...] = (1, 2)
    limit: float | None = None
    name: str = ""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    from vallis.core import catalog

    load = catalog.load
    monkeypatch.setattr(catalog, "load", lambda kind, name: Held if name == "held" else load(kind, name))


@pytest.mark.usefixtures("held")
def test_the_settings_of_a_default_part_are_changed_one_by_one() -> None:
    assert assemble("problems", "held", tree("--p.inner.test_fraction=0.2").at("p")) == Held(
        inner=Digits(test_fraction=0.2)
    )
    assert assemble("problems", "held", tree("--p.words.b=2").at("p")).words == {"a": 1, "b": 2}


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--p.choise=one"], "did you mean choice"),
        (["--p.choice=three"], "held.choice must be"),
        (["--p.sizes.x=1"], "holds a plain value"),
        (["--p.inner=digts"], "did you mean digits"),
        (["--p.inner.test_fractoin=0.1"], "did you mean test_fraction"),
    ],
)
def test_what_cannot_be_set_is_a_sentence(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("held", ".*Held")) as caught:
        assemble("problems", "held", tree(*words).at("p"))
    assert "\n" not in str(caught.value)


def test_settings_of_a_part_that_was_not_named() -> None:
    with pytest.raises(SettingsError, match="must name a part before its settings"):
        assemble("problems", "corrupted", tree("--p.base.test_fraction=0.1").at("p"))
    with pytest.raises(SettingsError, match="requires a value for base"):
        assemble("problems", "corrupted", Tree())


def test_given_settings_stand_behind_those_of_the_command_line() -> None:
    usual = {"momentum": 0.9, "learning_rate": 0.2}
    found = assemble("training", "gradient_descent", tree("--t.learning_rate=0.3").at("t"), usual)
    assert (found.momentum, found.learning_rate) == (0.9, 0.3)


def test_options_that_go_nowhere_are_refused() -> None:
    only(tree("--model.widths=1"), ["model"])
    with pytest.raises(UsageError, match=r"did you mean --model\."):
        only(tree("--modle.widths=1"), ["model", "problem"])


def test_settings_as_a_person_sees_them() -> None:
    found = {item.name: (item.type, item.default, item.says) for item in settings_of(Held)}
    assert found["inner"][0] == "problem"
    assert found["inner"][2] == "a problem, on two lines."
    assert found["words"] == ("JSON", "{'a': 1}", "(of no importance): many.")
    assert found["choice"][:2] == ("one | two", "one")
    assert found["sizes"][:2] == ("int,...", "1,2")
    assert found["limit"][:2] == ("float | none", "none")
    assert found["name"][:2] == ("str", '""')
    assert {item.name: item.default for item in settings_of(Corrupted)}["base"] == "required"


def test_a_docstring_without_attributes_says_nothing() -> None:
    assert attributes("Just a line.") == {}
