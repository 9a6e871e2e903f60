"""Writes numbers as people do: as many digits as the error bar leaves, and powers of ten for many zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from vallis.core.types import Estimate

MINUS = "\N{MINUS SIGN}"
# A number without an error bar gets these many digits; one with a tiny error bar never more than the second.
_DIGITS, _MOST_DIGITS = 4, 8
# What a method is called that leaves nothing to chance.
_CERTAIN = ("exact", "counted", "closed form")


@dataclass(frozen=True, kw_only=True)
class Written:
    """A number with its error bar in words: ``(value ± stderr) × 10^exponent``.

    Attributes:
        value: the digits of the number.
        stderr: the digits of its error bar; empty when it is exact or nobody knows it.
        exponent: the power of ten of both, or of the value alone where the error bar has its own; 0 for none.
        stderr_exponent: the error bar's own power of ten, where it is so small that they cannot share one.
    """

    value: str
    stderr: str = ""
    exponent: int = 0
    stderr_exponent: int = 0

    def __str__(self) -> str:
        error = f" ± {self.stderr}{_power(self.stderr_exponent)}" if self.stderr else ""
        if error and self.exponent and not self.stderr_exponent:
            return f"({self.value}{error}){_power(self.exponent)}"
        return f"{self.value}{_power(self.exponent)}{error}"


def written(value: float | None, stderr: float | None = None, digits: int = _DIGITS) -> Written:
    """The number in digits: two digits of the error bar, the value to the same place; `digits` where there is none."""
    if value is None or not math.isfinite(value):
        return Written(value="not finite")
    value = float(value)
    if not stderr or not math.isfinite(stderr):
        return _alone(value, digits)
    stderr = abs(float(stderr))
    own = _magnitude(stderr)
    size = max(_magnitude(value), own)
    exponent = _shared_exponent(size)
    places = 1 - own + exponent
    if size - exponent + places >= _MOST_DIGITS:  # the error bar is far below the digits anybody reads
        text = _fixed(value, exponent, _MOST_DIGITS - 1 - (size - exponent))
        return Written(value=text, stderr=_fixed(stderr, own, 1), exponent=exponent, stderr_exponent=own)
    return Written(value=_fixed(value, exponent, places), stderr=_fixed(stderr, exponent, places), exponent=exponent)


def quantity(found: Estimate, digits: int = 3) -> str:
    """An estimate in a sentence, with its unit: ``0.083 ± 0.022 nats``.

    An error bar that would change none of the digits is left out: the tables have it.
    """
    error = found.stderr if found.stderr and found.stderr > 10.0 ** -(digits + 1) * abs(found.value) else None
    unit = "" if found.unit == "1" else f" {found.unit}"
    return f"{written(found.value, error, digits)}{unit}"


def is_exact(found: Estimate) -> bool:
    """Whether an estimate says of itself that nothing was left to chance.

    An error bar of zero alone does not: a sample whose members all agree has one, too.
    """
    return found.stderr == 0 and any(word in found.method for word in _CERTAIN)


def probability(p: float | None) -> str:
    """A p-value as it is quoted: ``p=0.003``, never ``p=0``; empty when there is none."""
    if p is None or not math.isfinite(p):
        return ""
    if p < 1e-4:
        return "p<0.0001"
    return f"p={p:.2g}"


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}".replace("-", MINUS)


def _alone(value: float, digits: int) -> Written:
    if value == int(value) and abs(value) < 1e9:
        return Written(value=count(int(value)))
    size = _magnitude(value, digits)
    exponent = _shared_exponent(size)
    if exponent:
        return Written(value=_fixed(value, exponent, min(digits, 3) - 1), exponent=exponent)
    return Written(value=_fixed(value, 0, max(0, digits - 1 - size)))


def _shared_exponent(size: int) -> int:
    return size if size >= 6 or size <= -4 else 0


def _magnitude(value: float, digits: int = 2) -> int:
    """The power of ten of the number once it is rounded: 0.0996 is 0.10, not 0.099."""
    return int(f"{abs(value):.{digits - 1}e}".partition("e")[2]) if value else -(10**6)


def _fixed(value: float, exponent: int, places: int) -> str:
    """The digits of ``value / 10^exponent``; in decimal, for the power alone may be out of the reach of floats."""
    text = f"{round(Decimal(value).scaleb(-exponent), places):,.{max(0, places)}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def _power(exponent: int) -> str:
    return f" × 10^{exponent}".replace("-", MINUS) if exponent else ""
