from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.calls import Vallis
from vallis.core import catalog

Install = Callable[..., None]


@pytest.fixture
def vallis(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vallis:
    """The command line, in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Vallis(capsys)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts toys into the catalog, as an installed package would: ``install("measurements", broken="Broken")``."""

    def put(kind: str, module: str = "tests.run.toy", **classes: str) -> None:
        for name, attribute in classes.items():
            entry = catalog.Entry(name, module, attribute, None)
            monkeypatch.setitem(catalog.entries(kind), name, entry)

    return put


@pytest.fixture
def toys(install: Install) -> None:
    """A quick problem, model and training by name, and measurements of every kind."""
    install("problems", clouds="Clouds")
    install("models", linear="Linear")
    install("training", descent="Descent")
    install(
        "measurements", norm="Norm", way="Way", distance="Distance", count="Count", broken="Broken", curved="Curved"
    )
    install("measurements", stop="Stop")
    install("studies", toy_study="ToyStudy")
