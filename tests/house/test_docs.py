"""The documentation builds without one warning, and has a page for every part."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT
from vallis.core import catalog


def test_the_documentation_builds_strictly(tmp_path: Path) -> None:
    # A copy, because the build writes the pages of the parts beside the sources.
    source = shutil.copytree(
        ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("_build", "parts", "modules")
    )
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-n",
        "-q",
        "-b",
        "html",
        source,
        tmp_path / "html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    pages = [
        tmp_path / "html" / "parts" / kind / f"{name}.html" for kind in catalog.KINDS for name in catalog.names(kind)
    ]
    assert [page for page in pages if not page.is_file()] == []
