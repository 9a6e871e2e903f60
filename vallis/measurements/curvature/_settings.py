"""Checks of settings: counts with a least value, numbers that must be positive."""

from __future__ import annotations

from vallis.core.errors import SettingsError


def must_be_at_least(least: int, part: object, *names: str) -> None:
    """Lets settings of these names pass that are at least so much, or None.

    Raises:
        SettingsError: one is less, or NaN.
    """
    for name in names:
        value = getattr(part, name)
        if value is not None and not value >= least:
            raise SettingsError(f"{name} of at least {least} was required, {value} came: raise it")


def must_be_positive(part: object, *names: str) -> None:
    """Lets settings of these names pass that are above zero.

    Raises:
        SettingsError: one is not.
    """
    for name in names:
        value = getattr(part, name)
        if not value > 0:
            raise SettingsError(f"{name} above 0 was required, {value} came: raise it")
