"""A terminal on which every progress bar shows at once."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest


class Terminal(io.StringIO):
    """What is written to standard error, as if somebody looked at it."""

    def isatty(self) -> bool:
        return True

    @staticmethod
    def looked_at(monkeypatch: pytest.MonkeyPatch) -> Terminal:
        """Standard error as a terminal, on which two seconds have always passed."""
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        import tqdm

        original: Callable[..., Any] = tqdm.tqdm

        def at_once(*args: Any, delay: float, **kwargs: Any) -> Any:
            assert delay == 2.0
            return original(*args, file=screen, mininterval=0, **kwargs)

        monkeypatch.setattr(tqdm, "tqdm", at_once)
        return screen
