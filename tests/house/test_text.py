"""No file tells on the machine that it was written on: no home folders, no registry hosts."""

from __future__ import annotations

import re

import pytest

from tests.house.source import ROOT, nothing, tracked_like

# Written so that the pattern does not match itself.
TELLTALE = re.compile(
    r"(?<![\w.:/-])/(?:root|work|opt|home|Users)/[\w.]"  # an absolute path into somebody's folders
    r"|[A-Za-z]:\\\\?Users"
    r"|(?:index-url|extra-index|trusted-host)[ =]"
    r"|(?:py(?:pi)\.org|python(?:hosted)\.org|registry\.(?:npmjs)\.)"
)


def telling(text: str) -> list[str]:
    return [match.group() for match in TELLTALE.finditer(text)]


def test_no_file_tells_on_its_machine() -> None:
    found = []
    for file in tracked_like():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or a data file: no text to read
        found += [f"{file.relative_to(ROOT)}: {said}" for said in telling(text)]
    nothing(found)


@pytest.mark.parametrize("folder", ["root", "work", "opt", "home"])
def test_a_path_is_noticed(folder: str) -> None:
    assert telling(f"open('/{folder}/someone/data')")
    assert telling(f"-e /{folder}/main")


def test_other_text_passes() -> None:
    assert telling("out/work/x tests/home/y a/opt/b work/main ~/.cache/vallis usr/share/opt https://a.org/work/1") == []
