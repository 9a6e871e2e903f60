"""A progress bar that also moves while nothing is finished: after two seconds one sees what is worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vallis.core.progress import bar

_DELAY, _INTERVAL = 2.0, 1.0


@contextmanager
def ticking(label: str, total: int | None = None) -> Iterator[Any]:
    """A bar for its user to move, drawn anew every second; it appears only on a terminal.

    Args:
        label: what it counts.
        total: how many there are.
    """
    with bar(label, total) as moving:
        over = threading.Event()
        clock = threading.Thread(target=_tick, args=(moving, over), daemon=True)
        if not moving.disable:
            clock.start()
        try:
            yield moving
        finally:
            over.set()
            if clock.is_alive():
                clock.join()


def _tick(moving: Any, over: threading.Event) -> None:
    wait = _DELAY
    while not over.wait(wait):
        moving.refresh()
        wait = _INTERVAL
