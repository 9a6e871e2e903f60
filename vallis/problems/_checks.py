"""Refuses impossible settings, in one sentence each."""

from __future__ import annotations

import numbers
import typing
from typing import Any

from vallis.core.errors import SettingsError


def check_number(what: str, value: int | None, least: int = 1) -> None:
    """Refuses a number of things below the least; None, for all of them, passes.

    Raises:
        SettingsError: it is no number, or too small.
    """
    if value is not None and not _is_number(value):
        raise SettingsError(f"{what} must be a number of at least {least}, {value!r} came: give one")
    if value is not None and value < least:
        raise SettingsError(f"{what} must be at least {least}, {value} came: give a larger number")


def check_share(what: str, value: float, *, zero: bool, one: bool) -> None:
    """Refuses what is no share of a whole.

    Args:
        what: the setting.
        value: what came.
        zero: whether 0 is allowed.
        one: whether 1 is allowed.

    Raises:
        SettingsError: it is no number, or outside.
    """
    if not _is_number(value) or not (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        interval = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
        raise SettingsError(f"{what} must be in {interval}, {value!r} came: give a share such as 0.5")


def check_choice(what: str, value: str | int, choices: Any) -> None:
    """Refuses a value that is not one of a `Literal`.

    Raises:
        SettingsError: it is not.
    """
    allowed = typing.get_args(choices)
    if value not in allowed:
        raise SettingsError(
            f"{what} must be one of {', '.join(map(str, allowed))}, {value!r} came: choose one of these"
        )


def check_part(what: str, value: Any, verb: str) -> None:
    """Refuses what is no part, such as the name of one.

    Args:
        what: the setting.
        value: what came.
        verb: what a part of this kind does, "build" for a problem and "init" for a training.

    Raises:
        SettingsError: it does not.
    """
    if isinstance(value, type) or not callable(getattr(value, verb, None)):
        raise SettingsError(f"{what} must be a part, {value!r} came: give one with its settings, such as Digits()")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real)
