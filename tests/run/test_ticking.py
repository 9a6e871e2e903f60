"""A bar that is drawn while nothing is finished."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vallis.run import ticking as module


class Drawn:
    """A bar that says when it was drawn three times."""

    def __init__(self, disable: bool | None) -> None:
        self.disable = disable
        self.times = 0
        self.often = threading.Event()

    def refresh(self) -> None:
        self.times += 1
        if self.times >= 3:
            self.often.set()


def drawn(monkeypatch: pytest.MonkeyPatch, disable: bool | None) -> Drawn:
    held = Drawn(disable)

    @contextmanager
    def bar(label: str, total: int | None = None) -> Iterator[Drawn]:
        yield held

    monkeypatch.setattr(module, "bar", bar)
    monkeypatch.setattr(module, "_DELAY", 0.01)
    monkeypatch.setattr(module, "_INTERVAL", 0.01)
    return held


def test_it_is_drawn_though_nobody_moves_it_and_no_longer_than_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    held = drawn(monkeypatch, disable=None)  # as tqdm says on a terminal
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), module.ticking("pieces", 3) as moving:
        assert moving is held
        assert held.often.wait(10)
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_without_a_terminal_there_is_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    held = drawn(monkeypatch, disable=True)
    before = threading.active_count()
    with module.ticking("pieces"):
        assert threading.active_count() == before
    assert held.times == 0
