"""Calls the command line in this process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vallis.cli import main


@dataclass(frozen=True)
class Done:
    """The exit code and what was printed."""

    code: int
    out: str
    err: str


class Vallis:
    """``vallis("list", "models")``: runs a command and captures what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> Done:
        self._capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = self._capsys.readouterr()
        return Done(code, out, err)

    def good(self, *words: object) -> str:
        """What a command prints that must succeed."""
        done = self(*words)
        assert (done.code, done.err) == (0, ""), done
        return done.out

    def refused(self, *words: object) -> str:
        """The one sentence of a command line that cannot be used."""
        done = self(*words)
        assert (done.code, done.out) == (2, ""), done
        (line,) = done.err.splitlines()
        assert line.startswith("vallis: ")
        return line
