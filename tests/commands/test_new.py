from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.calls import Vallis
from vallis.commands.new import fill, in_checkout
from vallis.core import catalog

ROOT = Path(__file__).resolve().parents[2]
LONG = "a_name_that_is_as_long_as_a_name_may_be0"
SINGULAR = {"problems": "problem", "models": "model", "measurements": "measurement", "studies": "study"}


def tool(name: str, *words: object, folder: Path) -> str:
    """What a tool of this environment says in a folder, in which it must succeed."""
    # Vallis is taken from the folder itself, as in its own checkout.
    how = ["-c", "import sys; from vallis.cli import main; sys.exit(main())"] if name == "vallis" else ["-m", name]
    command = [sys.executable, *how, *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source in which a part of every kind was written, one with the longest name there may be."""
    folder = tmp_path_factory.mktemp("checkout")
    unwanted = shutil.ignore_patterns("__pycache__", "_build", "parts", "modules")
    for name in ("vallis", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in ("pyproject.toml", "constraints.txt", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder)
    for kind in catalog.KINDS:
        tool("vallis", "new", SINGULAR.get(kind, kind), f"demo_{kind}", folder=folder)
    tool("vallis", "new", "measurement", LONG, "--family", "unheard_of", folder=folder)
    return folder


def written(folder: Path) -> list[Path]:
    """The files that are in the copy and not in the source."""
    found = [path for path in folder.rglob("*.py") if not (ROOT / path.relative_to(folder)).exists()]
    return sorted(path.relative_to(folder) for path in found if "__pycache__" not in path.parts)


def test_two_files_a_part_and_nothing_else(checkout: Path) -> None:
    found = [str(path) for path in written(checkout)]
    assert "vallis/measurements/fit/demo_measurements.py" in found
    assert "tests/measurements/fit/test_demo_measurements.py" in found
    assert f"vallis/measurements/unheard_of/{LONG}.py" in found
    # A folder that held no part yet gets its marker.
    others = [Path(path).name for path in found if "demo_" not in path and LONG not in path]
    assert set(others) == {"__init__.py"}


def test_the_linter_and_the_formatter_have_nothing_to_say(checkout: Path) -> None:
    files = written(checkout)
    tool("ruff", "check", "--no-cache", *files, folder=checkout)
    tool("ruff", "format", "--check", "--no-cache", *files, folder=checkout)


def test_their_tests_pass(checkout: Path) -> None:
    tests = [path for path in written(checkout) if path.parts[0] == "tests"]
    assert len(tests) == 7
    said = tool("pytest", "-q", "-p", "no:cacheprovider", *tests, folder=checkout)
    assert "passed" in said


def test_they_are_found_and_shown(checkout: Path) -> None:
    printed = tool("vallis", "list", folder=checkout)
    for kind in catalog.KINDS:
        assert f"demo_{kind} " in printed
    assert "--demo_measurements.order FLOAT" in tool("vallis", "show", "demo_measurements", folder=checkout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_strict_types_and_the_whole_house_accept_them(checkout: Path) -> None:
    tool("mypy", folder=checkout)
    # They look at git, at docs/ and at the installed command, which are those of the source.
    elsewhere = ["test_build.py", "test_docs.py", "test_startup.py", "test_text.py", "test_readme.py"]
    skipped = [word for name in elsewhere for word in ("--ignore", f"tests/house/{name}")]
    quiet = ("-q", "-p", "no:cacheprovider")
    tool("pytest", *quiet, "tests/house", *skipped, folder=checkout)
    tool("pytest", *quiet, "tests/conformance", "-k", f"demo_ or {LONG}", folder=checkout)


def test_anywhere_else_the_files_lie_here(vallis: Vallis) -> None:
    for kind in catalog.KINDS:
        printed = vallis.good("new", SINGULAR.get(kind, kind), f"my_{kind}")
        name = catalog.class_name(f"my_{kind}")
        assert f'[project.entry-points."vallis.{kind}"]\nmy_{kind} = "my_{kind}:{name}"' in printed
        assert f"\n\nfrom my_{kind} import {name}\n" in Path(f"test_my_{kind}.py").read_text()
    assert len(list(Path().iterdir())) == 2 * len(catalog.KINDS)
    tool("pytest", "-q", "-p", "no:cacheprovider", "test_my_measurements.py", folder=Path())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("part", "demo"), "no kind is named 'part'"),
        (("model", "Demo"), "in small letters with underscores"),
        (("model", "2d"), "in small letters with underscores"),
        (("model", "a__b"), "in small letters with underscores"),
        (("model", "lambda"), "in small letters with underscores"),
        (("model", "a" * 41), "of 40 at most"),
        (("model", "../x"), "in small letters with underscores"),
        (("measurement", "demo", "--family", "../x"), "a family in small letters"),
        (("model", "demo", "--family", "curvature"), "--family goes with a measurement"),
        (("model", "mlp"), "mlp is taken in models"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(vallis: Vallis, words: tuple[str, ...], said: str) -> None:
    assert said in vallis.refused("new", *words)
    assert list(Path().iterdir()) == []


def test_nothing_is_written_over(vallis: Vallis) -> None:
    Path("test_demo.py").write_text("mine")
    assert "test_demo.py is there already" in vallis.refused("new", "measurement", "demo")
    assert [path.name for path in Path().iterdir()] == ["test_demo.py"]


def test_the_import_of_a_part_is_sorted_among_the_others() -> None:
    for kind in catalog.KINDS:
        (test,) = (text for path, text in in_checkout(kind, "demo", "fit").items() if path.name == "test_demo.py")
        lines = [line for line in test.splitlines() if line.startswith("from vallis.")]
        assert lines == sorted(lines)
        assert any(line.endswith("import Demo") for line in lines)


def test_no_placeholder_is_left() -> None:
    for kind in catalog.KINDS:
        for test in (False, True):
            assert "$" not in fill(kind, "demo", "demo", test)
