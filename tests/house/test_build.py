"""The Makefile explains itself, and continuous integration runs exactly what a person runs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.house.source import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CI = ROOT / ".ci" / "run"
TARGETS = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split()  # type: ignore[index]


def outside_make() -> dict[str, str]:
    """The environment, as it is when these tests are not themselves started by make."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}


def dry_run(*arguments: str) -> str:
    """What make prints; with ``-n``, what it would do."""
    command = ["make", "--no-print-directory", *arguments]
    # The limit is for a recipe that runs make: it would run this test, which would run make ...
    options = {"cwd": ROOT, "env": outside_make(), "check": True, "capture_output": True, "text": True, "timeout": 30}
    return str(subprocess.run(command, **options).stdout)


def test_the_targets_that_people_expect_exist() -> None:
    assert {"help", "run", "test", "check", "slow", "bench", "docs", "clean"} <= set(TARGETS)


def test_help_is_the_default_and_explains_every_target() -> None:
    printed = dry_run()
    assert printed == dry_run("help")
    explained = dict(re.findall(r"^  make (\S+) +(\S.*)$", printed, re.MULTILINE))
    assert set(explained) == set(TARGETS)


@pytest.mark.parametrize("target", ["run", "test", "check", "slow", "docs"])
def test_a_target_sets_up_first(target: str) -> None:
    """`-W` pretends that the constraints changed: each target must then install before it does anything else."""
    lines = dry_run("-n", "-W", "constraints.txt", target).splitlines()
    installs = [number for number, line in enumerate(lines) if "pip" in line and " install " in line]
    assert len(installs) == 2
    assert "torch==" in lines[installs[0]], "torch must come first, by its exact version"
    assert all("-c constraints.txt" in lines[number] for number in installs)
    assert installs[-1] < len(lines) - 2


@pytest.mark.parametrize("failing", [None, "ruff", "mypy", "pytest"])
def test_make_test_runs_everything_and_tells_the_worst(tmp_path: Path, failing: str | None) -> None:
    """With stand-ins for the tools: whichever fails, the tests run last, and make fails exactly if one of them did."""
    for tool in ("ruff", "mypy", "pytest"):
        script = tmp_path / tool
        script.write_text(f'#!/bin/sh\necho "ran {tool} $*"\nexit {int(tool == failing)}\n', encoding="utf-8")
        script.chmod(0o755)
    command = ["make", "--no-print-directory", "--old-file=.venv/.installed", f"BIN={tmp_path}", "test"]
    done = subprocess.run(command, cwd=ROOT, env=outside_make(), check=False, capture_output=True, text=True)
    ran = re.findall(r"^ran (.*)$", done.stdout, re.MULTILINE)
    assert ran[0] == "ruff check"
    assert ran[-1].startswith("pytest")
    assert (done.returncode != 0) == (failing is not None)


def test_continuous_integration_ends_in_make_test() -> None:
    assert os.access(CI, os.X_OK)
    subprocess.run(["bash", "-n", CI], check=True)
    # `exec`: the status and the last line are make's own.
    assert CI.read_text(encoding="utf-8").rstrip().splitlines()[-1] == "exec make test"
