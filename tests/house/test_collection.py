"""Every process collects the same tests in the same order: pytest-xdist runs none otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT


@pytest.mark.parametrize(
    ("values", "collected"), [("['b', 'a']", True), ("{'b', 'a'}", False), ("frozenset('ba')", False)]
)
def test_a_set_of_parameters_is_refused(tmp_path: Path, values: str, collected: bool) -> None:
    (tmp_path / "conftest.py").write_text(
        (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tmp_path / "test_letters.py").write_text(
        f"import pytest\n\n@pytest.mark.parametrize('letter', {values})\ndef test_letter(letter):\n    pass\n",
        encoding="utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode == 0) is collected, done.stdout + done.stderr
    assert ("parametrized by a set" in done.stdout + done.stderr) is not collected
