"""Progress on the terminal: a bar appears on what takes longer than two seconds, and never in a log file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Item = TypeVar("Item")
_UNSEEN: ContextVar[bool] = ContextVar("unseen", default=False)


def track(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar on standard error once two seconds have passed (only on a terminal)."""
    from tqdm import tqdm

    return iter(
        tqdm(items, desc=label, total=total, delay=2.0, leave=False, disable=_UNSEEN.get() or None, dynamic_ncols=True)
    )


def bar(label: str, total: int | None = None, quiet: bool = False) -> Any:
    """A bar for its user to move, as a context: ``moving.update(1)`` moves it by one; a quiet one is never seen."""
    from tqdm import tqdm

    return tqdm(
        desc=label, total=total, delay=2.0, leave=False, disable=quiet or _UNSEEN.get() or None, dynamic_ncols=True
    )


@contextmanager
def unseen() -> Iterator[None]:
    """Lets no bar appear that is made inside: of many things that go in step each would draw its own."""
    token = _UNSEEN.set(True)
    try:
        yield
    finally:
        _UNSEEN.reset(token)
