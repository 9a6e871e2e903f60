import sys

import pytest

from tests.core.terminal import Terminal
from vallis.core import progress


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal.looked_at(monkeypatch)


def test_items_come_through_in_order() -> None:
    assert list(progress.track([3, 1, 2], "counting")) == [3, 1, 2]
    assert list(progress.track(iter("ab"), "counting", total=2)) == ["a", "b"]


def test_nothing_is_consumed_before_it_is_asked_for() -> None:
    asked = []
    items = progress.track((asked.append(i) or i for i in range(3)), "counting")
    assert asked == []
    next(items)
    assert asked == [0]


def test_a_log_file_gets_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tqdm.std.time", iter(range(0, 10**6, 60)).__next__)  # a minute at every look at the clock
    assert len(list(progress.track(range(5), "counting"))) == 5
    with progress.bar("counting", total=5) as moving:
        moving.update(5)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_terminal_gets_a_bar_that_goes_away(terminal: Terminal) -> None:
    assert list(progress.track(range(3), "counting sheep")) == [0, 1, 2]
    assert "counting sheep: " in terminal.getvalue() and "3/3" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


def test_a_bar_is_moved_by_its_user(terminal: Terminal) -> None:
    with progress.bar("counting", total=10) as moving:
        moving.update(4)
        moving.refresh()
    assert "4/10" in terminal.getvalue()


def test_what_is_quick_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(progress.track(range(3), "counting")) == [0, 1, 2]
    assert "counting" not in screen.getvalue()


def test_an_exception_passes_through_an_open_bar() -> None:
    with pytest.raises(KeyboardInterrupt), progress.bar("counting"):
        raise KeyboardInterrupt
