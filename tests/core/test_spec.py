import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vallis.core import catalog, spec
from vallis.core.errors import SettingsError, UnknownPart, UsageError
from vallis.core.protocols import Problem

HERE = __name__


@dataclass(frozen=True, kw_only=True)
class Plain:
    version: ClassVar[int] = 1

    size: int = 3
    rate: float = 0.5
    name: str = "plain"
    deep: bool = False

    def build(self, rng: Any) -> Any:
        return ()


@dataclass(frozen=True, kw_only=True)
class Nested:
    version: ClassVar[int] = 2

    base: Problem
    more: tuple[Problem, ...] = ()
    other: Problem | None = None
    either: tuple[Problem, ...] | None = None
    inner: Plain = field(default_factory=Plain)
    sizes: tuple[int, ...] = (1, 2)
    mode: Literal["a", "b"] = "a"
    words: frozenset[str] = frozenset()
    table: dict[str, float] = field(default_factory=dict)
    late: int = field(default=5, metadata={"was": 1})


@pytest.fixture(autouse=True)
def importable() -> Iterator[None]:
    """Parts outside the catalog are found among the modules that the caller has imported: so this file must be one."""
    before = sys.modules.get(HERE)
    module = type(sys)(HERE)
    module.Plain, module.Nested = Plain, Nested
    sys.modules[HERE] = module
    yield
    if before is None:
        del sys.modules[HERE]
    else:
        sys.modules[HERE] = before


FULL = Nested(
    base=Plain(size=1),
    more=(Plain(size=2), Plain(name="two")),
    other=Plain(),
    either=(Plain(),),
    sizes=(4,),
    mode="b",
    words=frozenset("ab"),
    table={"x": 1.5},
)


def test_a_part_survives_the_way_through_a_file() -> None:
    text = json.dumps(spec.to_spec(FULL))
    again = spec.from_spec(json.loads(text))
    assert again == FULL
    assert hash(again.more) == hash(FULL.more)
    assert spec.digest(again) == spec.digest(FULL)


@settings(deadline=None)
@given(
    st.builds(
        Plain,
        size=st.integers(-(2**70), 2**70),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        name=st.text(),
        deep=st.booleans(),
    )
)
def test_any_settings_survive(part: Plain) -> None:
    again = spec.from_spec(json.loads(json.dumps(spec.to_spec(part))))
    assert again == part
    assert spec.digest(again) == spec.digest(part)


def test_a_spec_holds_all_settings_and_says_what_it_is() -> None:
    assert spec.to_spec(Plain()) == {
        "kind": "outside",
        "name": f"{HERE}:Plain",
        "version": 1,
        "settings": {"size": 3, "rate": 0.5, "name": "plain", "deep": False},
    }
    digits = catalog.load("problems", "digits")
    assert (spec.to_spec(digits())["kind"], spec.name_of(digits), spec.name_of(digits())) == (
        "problems",
        "digits",
        "digits",
    )


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in catalog.KINDS for name in catalog.names(kind)])
def test_parts_of_the_catalog_are_found_by_the_spec_of_their_defaults(kind: str, name: str) -> None:
    part = catalog.load(kind, name)
    if any(spec._required(item) for item in part.__dataclass_fields__.values() if item._field_type.name == "_FIELD"):
        with pytest.raises(SettingsError, match=f"{name} requires a value for"):
            spec.build(part, {})
        return
    made = spec.build(part, {})
    assert made == part()
    assert (spec.to_spec(made)["kind"], spec.to_spec(made)["name"]) == (kind, name)
    assert spec.from_spec(json.loads(json.dumps(spec.to_spec(made)))) == made


# ------------------------------------------------------------------------------------------------------ digests


def test_a_digest_depends_on_every_setting_and_on_the_version() -> None:
    others = [
        Nested(base=Plain(size=1)),
        Nested(base=Plain(size=2)),
        Nested(base=Plain(size=1), more=(Plain(),)),
        Nested(base=Plain(size=1), sizes=(2, 1)),
        Nested(base=Plain(size=1), words=frozenset("x")),
        Nested(base=Plain(size=1), table={"x": 1.0}),
        Nested(base=Plain(size=1), late=1),
        FULL,
    ]
    assert len({spec.digest(part) for part in others}) == len(others)

    class Newer(Plain):
        version: ClassVar[int] = 9

    Newer.__module__, Newer.__qualname__ = Plain.__module__, Plain.__qualname__
    assert spec.digest(Newer()) != spec.digest(Plain())


def test_a_digest_is_the_hash_of_sorted_json_without_spaces() -> None:
    """The names of stored results: another text here orphans every store."""
    text = '{"a":"ü","b":[1,2,null,true]}'
    assert spec.digest({"b": [1, 2.0, None, True], "a": "ü"}) == hashlib.sha256(text.encode()).hexdigest()
    part = (
        '{"kind":"outside","name":"%s:Plain","settings":{"deep":false,"name":"plain","rate":0.5,"size":3},"version":1}'
    )
    assert spec.digest(Plain()) == hashlib.sha256((part % HERE).encode()).hexdigest()


def test_a_field_that_came_later_keeps_old_names() -> None:
    names = {"base": Plain()}
    old = {"kind": "outside", "name": f"{HERE}:Nested", "version": 2, "settings": {"base": spec.to_spec(Plain())}}
    assert spec.from_spec(old).late == 1, "what was before the field existed"
    assert Nested(**names).late == 5
    assert spec.digest(Nested(**names, late=1)) != spec.digest(Nested(**names))
    identity = spec._identity(Nested(**names, late=1))
    assert "late" not in identity["settings"]
    assert spec._identity(Nested(**names))["settings"]["late"] == 5


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (1, 1.0),
        (-0.0, 0),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.float64(0.5), 0.5),
        (1e300, 1e300),
    ],
)
def test_equal_values_have_one_name(one: Any, two: Any) -> None:
    assert spec.digest(one) == spec.digest(two)


@pytest.mark.parametrize(
    ("one", "two"), [(1, True), (0, False), ("1", 1), (None, "None"), ([1], [[1]]), (0.1, 0.1000000001), ([], {})]
)
def test_different_values_have_two(one: Any, two: Any) -> None:
    assert spec.digest(one) != spec.digest(two)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"deep": -float("inf")}]])
def test_what_json_has_no_word_for_has_no_name(value: Any) -> None:
    with pytest.raises(SettingsError, match="settings must be finite plain values"):
        spec.digest(value)


@pytest.mark.parametrize("value", [np.int64(3), object(), b"bytes", Plain], ids=["numpy", "object", "bytes", "class"])
def test_a_setting_is_a_plain_value_or_a_part(value: Any) -> None:
    with pytest.raises(SettingsError, match="a setting must be a plain value or a part"):
        spec.digest([value])


def test_file_names_that_are_no_proper_text_have_digests() -> None:
    assert spec.digest("\udc80") != spec.digest("\udc81")


# ------------------------------------------------------------------------------------------------------ building


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": "7"}, Plain(size=7)),
        ({"rate": "1e-3"}, Plain(rate=1e-3)),
        ({"rate": 2}, Plain(rate=2.0)),
        ({"deep": "true"}, Plain(deep=True)),
        ({}, Plain()),
    ],
)
def test_words_of_a_command_line_become_settings(settings: dict[str, Any], expected: Plain) -> None:
    made = spec.build(Plain, settings)
    assert made == expected
    assert [type(value) for value in vars(made).values()] == [int, float, str, bool]


def test_lists_become_tuples_and_specs_become_parts() -> None:
    made = spec.build(Nested, {"base": Plain(), "more": [Plain(size=9)], "either": [Plain()], "sizes": [3, 4]})
    assert made == Nested(base=Plain(), more=(Plain(size=9),), either=(Plain(),), sizes=(3, 4))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": "many"}, r"Plain.size must be int, 'many' came: input should be a valid integer"),
        ({"size": 2.5}, r"Plain.size must be int, 2.5 came"),
        ({"rate": None}, r"Plain.rate must be float, None came"),
        ({"name": 3}, r"Plain.name must be str, 3 came"),
        ({"size": Plain()}, r"Plain.size must be int, Plain\("),
        ({"sice": 3}, r"Plain: no setting is named 'sice'; did you mean size"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        spec.build(Plain, settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, r"Nested requires a value for base, and none came: give one"),
        ({"base": 5}, r"Nested.base must be a part, 5 came"),
        ({"base": None}, r"Nested.base must be a part, None came"),
        ({"base": [Plain()]}, r"Nested.base must be a part"),
        ({"base": Plain(), "more": 5}, r"Nested.more must be a part, 5 came"),
        ({"base": Plain(), "more": [Plain(), "digits"]}, r"Nested.more must be a part, 'digits' came"),
        ({"base": Plain(), "mode": "c"}, r"Nested.mode must be 'a' or 'b', 'c' came: input should be 'a' or 'b'"),
        ({"base": Plain(), "sizes": "12"}, r"Nested.sizes must be tuple\[int, ...\], '12' came"),
        ({"base": Plain(), "inner": FULL}, r"Nested.inner must be Plain, Nested\("),
    ],
)
def test_parts_that_do_not_fit_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        spec.build(Nested, settings)


# ----------------------------------------------------------------------------------------------- specs from files


@pytest.mark.parametrize(
    "read", [{}, None, [1], "digits", {"kind": "problems"}, {"kind": "a", "name": "b", "settings": 3}]
)
def test_what_is_no_spec_is_refused(read: Any) -> None:
    with pytest.raises(UsageError, match="a spec with kind, name and settings was required"):
        spec.from_spec(read)


def test_a_spec_of_another_version_is_refused() -> None:
    old = {**spec.to_spec(Plain()), "version": 0}
    with pytest.raises(UsageError, match="of version 1 was required, the spec is of version 0"):
        spec.from_spec(old)


def test_unknown_parts_are_refused() -> None:
    with pytest.raises(UnknownPart, match="did you mean digits"):
        spec.from_spec({"kind": "problems", "name": "digit", "settings": {}})
    with pytest.raises(UnknownPart, match="no kind is named 'problms'"):
        spec.from_spec({"kind": "problms", "name": "digits"})


@pytest.mark.parametrize("name", ["os:system", "nosuchmodule:Part", "json:JSONDecoder", "Part", "os.path:join"])
def test_a_spec_runs_no_code_that_it_names(name: str) -> None:
    before = set(sys.modules)
    with pytest.raises(UsageError, match="is in no catalog"):
        spec.from_spec({"kind": "outside", "name": name, "settings": {}})
    assert set(sys.modules) == before


def test_parts_are_told_from_everything_else() -> None:
    assert spec.is_part(Plain()) and spec.is_part(FULL)
    assert not any(map(spec.is_part, [Plain, 3, None, {"version": 1}]))
