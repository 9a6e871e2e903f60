"""The README's ten lines of Python do what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def the_ten_lines() -> str:
    found = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "the README shows no Python"
    return found.group(1)


def test_the_ten_lines_examine_a_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", the_ten_lines()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    twin = json.loads((tmp_path / "out/mine/report.json").read_text())
    assert {found["status"] for found in twin["results"].values()} == {"ok"}
    assert "report.html" in done.stdout
    assert (tmp_path / "out/mine/report.html").stat().st_size > 1_000_000


def test_they_are_about_ten_lines() -> None:
    assert len([line for line in the_ten_lines().splitlines() if line.strip()]) <= 11


def test_the_picture_is_there() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    assert pictures
    assert all((README.parent / picture).is_file() for picture in pictures)
