"""Refuses impossible settings, in one sentence each."""

from __future__ import annotations

import typing
from typing import Any

from vallis.core.errors import SettingsError


def check_number(what: str, value: int | None, least: int = 1) -> None:
    """Refuses a number of things below the least; None, for all of them, passes.

    Raises:
        SettingsError: it is too small.
    """
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
        SettingsError: it is outside.
    """
    if not (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        interval = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
        raise SettingsError(f"{what} must be in {interval}, {value} came: give a share such as 0.5")


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
