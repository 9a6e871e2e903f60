"""Files are small, are named after what they hold, and each has its mirrored test file."""

from __future__ import annotations

from pathlib import Path

from tests.house.source import PACKAGE, ROOT, WriteTree, modules, nothing

MOST_LINES = 400
# Names that hold anything, so in the end they do.
SHAPELESS = {"utils", "util", "helpers", "helper", "misc", "common", "tools", "stuff"}


def too_long(package: Path) -> list[str]:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in modules(package)}
    return [f"{file.relative_to(package)}: {length} lines" for file, length in lengths.items() if length > MOST_LINES]


def shapeless(package: Path) -> list[str]:
    paths = [file.relative_to(package) for file in modules(package)]
    return [str(path) for path in paths if {part.strip("_") for part in path.with_suffix("").parts} & SHAPELESS]


def without_test(package: Path, tests: Path) -> list[str]:
    """Modules without ``tests/<same path>/test_<name>.py``; a dunder file (package, __main__) needs none of its own."""
    paths = [file.relative_to(package) for file in modules(package) if not file.name.startswith("__")]
    wanted = {path: path.with_name(f"test_{path.stem.lstrip('_')}.py") for path in paths}
    return [f"{path}: no tests/{test}" for path, test in wanted.items() if not (tests / test).is_file()]


def test_no_file_is_too_long() -> None:
    nothing(too_long(PACKAGE))


def test_no_file_has_a_shapeless_name() -> None:
    nothing(shapeless(PACKAGE))


def test_every_module_has_its_test_file() -> None:
    nothing(without_test(PACKAGE, ROOT / "tests"))


def test_the_package_is_typed() -> None:
    """Without this marker, nobody who uses Vallis gets its types."""
    assert (PACKAGE / "py.typed").is_file()


def test_violations_are_noticed(write_tree: WriteTree) -> None:
    package = write_tree({"core/long.py": "x = 1\n" * (MOST_LINES + 1), "core/fine.py": "x = 1\n" * MOST_LINES})
    assert too_long(package) == [f"core/long.py: {MOST_LINES + 1} lines"]

    package = write_tree({"core/_utils.py": "", "misc/trace.py": ""})
    assert shapeless(package) == ["core/_utils.py", "misc/trace.py"]

    tests = package.parent / "tests" / "core"
    tests.mkdir(parents=True)
    for name in ("fine", "utils"):
        (tests / f"test_{name}.py").touch()
    expected = ["core/long.py: no tests/core/test_long.py", "misc/trace.py: no tests/misc/test_trace.py"]
    assert without_test(package, tests.parent) == expected
