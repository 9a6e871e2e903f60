import collections
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from vallis.core import catalog
from vallis.core.errors import UnknownPart, UsageError

GOOD = '"""Counts sheep.\n\nDefinition: one, two.\n"""\n\nraise RuntimeError("imported")\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty package whose folders are the table; what other packages offer is left out."""
    for kind in catalog.KINDS:
        (tmp_path / kind).mkdir()
    monkeypatch.setattr(catalog, "_PACKAGE", tmp_path)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [])
    catalog.entries.cache_clear()
    yield tmp_path
    catalog.entries.cache_clear()


def put(package: Path, name: str, text: str = GOOD) -> None:
    file = package / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_a_file_is_a_part_and_an_underscore_is_none(package: Path) -> None:
    for name in ("sheep.py", "__init__.py", "_wool.py", "folder/goats.py", "folder/_horns.py", "notes.txt"):
        put(package, f"measurements/{name}")
    assert catalog.names("measurements") == ["goats", "sheep"]
    assert catalog.names("problems") == []
    goats = catalog.find("measurements", "goats")
    assert (goats.module, goats.attribute) == ("vallis.measurements.folder.goats", "Goats")
    assert goats.file == package / "measurements/folder/goats.py"


def test_words_are_read_without_importing(package: Path) -> None:
    put(package, "measurements/sheep.py")
    put(package, "measurements/silent.py", "x = 1\n")
    assert catalog.summary("measurements", "sheep") == "Counts sheep."
    assert catalog.docstring("measurements", "sheep").endswith("Definition: one, two.")
    assert catalog.summary("measurements", "silent") == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [("hessian_spectrum", "HessianSpectrum"), ("mlp", "Mlp"), ("zhang2017_randomization", "Zhang2017Randomization")],
)
def test_the_file_names_the_class(name: str, expected: str) -> None:
    assert catalog.class_name(name) == expected


@pytest.mark.parametrize(
    ("word", "kind"),
    [("problem", "problems"), ("problems", "problems"), ("training", "training"), ("study", "studies")],
)
def test_a_kind_goes_by_one_or_many(word: str, kind: str) -> None:
    assert catalog.kind_of(word) == kind


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_one_of_a_kind_leads_back_to_the_kind(kind: str) -> None:
    assert catalog.kind_of(catalog.singular(kind)) == kind


def test_a_typo_is_answered_with_the_nearest_names(package: Path) -> None:
    for name in ("hessian_spectrum", "hessian_trace", "margins"):
        put(package, f"measurements/{name}.py")
    with pytest.raises(UnknownPart, match="no measurement is named 'hesian_spectrum'; did you mean hessian_spectrum"):
        catalog.find("measurement", "hesian_spectrum")
    with pytest.raises(UnknownPart, match="there are: hessian_spectrum, hessian_trace, margins"):
        catalog.load("measurements", "zzzz")
    with pytest.raises(UnknownPart, match="there are: none"):
        catalog.find("problems", "digits")
    with pytest.raises(UnknownPart, match="no kind is named 'measurment'; did you mean measurements"):
        catalog.names("measurment")


def test_several_near_names_are_all_offered() -> None:
    said = str(catalog.unknown("part", "aab", {"aaa": 1, "abb": 2, "zzz": 3}))
    assert said == "no part is named 'aab'; did you mean abb or aaa?"


def test_parts_of_other_packages_come_through_entry_points(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(package, "models/mlp.py")
    offered = [
        EntryPoint(name="theirs", value="collections:OrderedDict", group="vallis.models"),
        EntryPoint(name="mlp", value="collections:Counter", group="vallis.models"),
    ]
    monkeypatch.setattr(catalog, "entry_points", lambda group: offered if group == "vallis.models" else [])
    catalog.entries.cache_clear()
    assert catalog.names("models") == ["mlp", "theirs"]
    assert catalog.load("models", "theirs") is collections.OrderedDict
    assert catalog.summary("models", "theirs").startswith("This module implements specialized container datatypes")
    assert catalog.find("models", "mlp").module == "vallis.models.mlp", "ours come first"
    assert catalog.names("problems") == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("their_parts.gone:Gone", "ModuleNotFoundError: No module named 'their_parts.gone'"),
        ("their_parts.inner:Gone", "AttributeError: module 'their_parts.inner' has no attribute 'Gone'"),
        ("their_parts.wrong:Gone", "SyntaxError: "),
        ("no_such_package:Gone", "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_a_part_of_another_package_that_cannot_be_imported_is_one_sentence(
    package: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    put(package, "their_parts/__init__.py", "")
    put(package, "their_parts/inner.py", '"""Is there."""\n')
    put(package, "their_parts/wrong.py", "def f(:\n")
    monkeypatch.syspath_prepend(package)
    offered = [EntryPoint(name="theirs", value=value, group="vallis.models")]
    monkeypatch.setattr(catalog, "entry_points", lambda group: offered)
    catalog.entries.cache_clear()
    with pytest.raises(
        UsageError, match=r"which an installed package offers as the model theirs, .*mend that"
    ) as error:
        catalog.load("models", "theirs")
    assert said in str(error.value)
    assert catalog.summary("models", "theirs") == ("Is there." if "inner" in value else "")
    for name in [name for name in sys.modules if name.startswith("their_parts")]:
        monkeypatch.delitem(sys.modules, name)


def test_our_own_parts_load() -> None:
    assert catalog.load("problem", "digits").__name__ == "Digits"
    assert catalog.load("models", "mlp").__module__ == "vallis.models.mlp"


def test_listing_imports_neither_torch_nor_any_part() -> None:
    program = (
        "import sys; from vallis.core import catalog\n"
        "for kind in catalog.KINDS:\n"
        "    for name in catalog.names(kind): catalog.summary(kind, name)\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] in ('torch', 'numpy', 'scipy')\n"
        "          or m.startswith('vallis.') and m.split('.')[1] in catalog.KINDS]\n"
        "sys.exit(' '.join(loaded[:5]) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
