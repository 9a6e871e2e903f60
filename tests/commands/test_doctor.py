from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.commands.calls import Vallis
from vallis.commands import doctor
from vallis.core.errors import DataMissing
from vallis.problems.digits import Digits


def test_all_is_well(vallis: Vallis) -> None:
    printed = vallis("doctor").out
    assert "ok       python" in printed
    assert torch.__version__ in printed
    assert "ok       problem digits" in printed
    assert "builds (train " in printed
    assert list(Path().iterdir()) == [], "it leaves nothing behind"


def test_what_is_missing_comes_with_advice(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(self: Digits, rng: object) -> None:
        assert sys.modules["pooch"] is None, "nothing may be downloaded"
        raise DataMissing("Digits was required and is nowhere: draw some")

    before = sys.modules.get("pooch")
    monkeypatch.setattr(Digits, "build", build)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["nosuchpackage>=1; extra == 'plot'", "torch"])
    done = vallis("doctor")
    assert done.code == 0, "nothing of it is needed"
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    place = lines.index("missing problem digits its data are not on this machine")
    assert lines[place + 1] == "draw some"
    place = lines.index("missing extra plot nosuchpackage not installed")
    assert lines[place + 1] == "pip install 'vallis[plot]'"
    assert sys.modules.get("pooch") is before


def test_what_is_broken_fails(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_PYTHON", (4, 0))
    monkeypatch.setattr(doctor, "data", lambda: iter([]))
    done = vallis("doctor")
    assert done.code == 1
    assert "install Python 4.0 or newer" in done.out


def test_a_place_that_cannot_be_written_is_broken(vallis: Vallis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "data", lambda: iter([]))
    Path("file").write_text("")
    done = vallis("doctor", "--out", "file/out")
    assert done.code == 1
    assert "broken   results" in done.out


def test_without_torch_it_still_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (finding,) = doctor.torch()
    assert (finding.status, finding.advice) == ("broken", "pip install torch")
