"""Which eigenvalues are looked for, and when the pairs that stand for them are good enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vallis.core.errors import SettingsError
from vallis.numerics.spectra import Eigenpairs, Floats, lower, upper

Mask = NDArray[np.bool_]
# Below this share of the largest magnitude a value is as good as zero: errors are not measured against it.
_NEGLIGIBLE = 0.002


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The largest and the smallest eigenvalues, or those of largest magnitude at either end.

    Attributes:
        largest: how many from the upper end.
        smallest: how many from the lower end.
        magnitude: how many of the largest magnitude; instead of the other two.

    Raises:
        SettingsError: a count is negative, nothing is wanted, or both kinds are.
    """

    largest: int = 0
    smallest: int = 0
    magnitude: int = 0

    def __post_init__(self) -> None:
        ends = self.largest + self.smallest
        if min(self.largest, self.smallest, self.magnitude) < 0 or (ends > 0) == (self.magnitude > 0):
            raise SettingsError(
                "counts of the largest and smallest eigenvalues, or of those of largest magnitude, were required, "
                f"largest={self.largest}, smallest={self.smallest}, magnitude={self.magnitude} came: change them"
            )

    @property
    def most(self) -> int:
        """The largest of the counts."""
        return max(self.largest, self.smallest, self.magnitude)

    def within(self, size: int) -> Wanted:
        """The same with no count above the size of the operator."""
        return Wanted(
            largest=min(self.largest, size), smallest=min(self.smallest, size), magnitude=min(self.magnitude, size)
        )

    def count(self, size: int) -> int:
        """How many different eigenvalues that is, of so many."""
        return min(size, self.largest + self.smallest + self.magnitude)

    def places(self, rising: Floats, spare: int = 0) -> list[int]:
        """Where the wanted lie among rising values, each once, and so many more beyond them."""
        size = len(rising)
        if self.magnitude:
            order = np.argsort(-np.abs(rising), kind="stable")
            return sorted(order[: self.magnitude + spare].tolist())
        above = spare * self.largest // (self.largest + self.smallest)
        low, high = self.smallest + spare - above, self.largest + above
        return [place for place in range(size) if place < low or place >= size - high]

    def ends(self, rising: Eigenpairs) -> tuple[Eigenpairs, Eigenpairs]:
        """The upper and the lower of the pairs, the most extreme first; by magnitude, those above zero and the rest."""
        if self.magnitude:
            above = int(np.sum(rising.values > 0))
            return upper(rising, above), lower(rising, len(rising) - above)
        return upper(rising, self.largest), lower(rising, self.smallest)


@dataclass(frozen=True, kw_only=True)
class Standard:
    """When a pair is good enough.

    Its residual proves that an eigenvalue is near. That it is the right one shows in the error of the value, which is
    about the square of the residual over the gap to what is not wanted: a pair that still hides another is refused.

    Attributes:
        tolerance: the residual may be this large, relative to the largest magnitude of an eigenvalue; the error of the
            value, relative to its own.
        rounding: what rounding leaves of a number of size one.
    """

    tolerance: float
    rounding: float

    def met(self, values: Floats, residuals: Floats, others: Floats, scale: float) -> Mask:
        """``(k,)`` which pairs are good enough.

        Args:
            values: ``(k,)``.
            residuals: ``(k,)``.
            others: values of the rest of the spectrum, as far as they are known.
            scale: the largest magnitude of an eigenvalue.
        """
        own = self.tolerance * np.maximum(np.abs(values), _NEGLIGIBLE * scale)
        limit = np.maximum(own, 10 * self.rounding * scale)
        good: Mask = (residuals <= self.tolerance * scale) & (value_errors(values, residuals, others) <= limit)
        return good


def value_errors(values: Floats, residuals: Floats, others: Floats) -> Floats:
    """``(k,)`` about how far the values are from their eigenvalues: the residual squared over the gap, or the residual.

    Source: Parlett (1998), The symmetric eigenvalue problem, theorem 11.7.1 (with Ritz values for the gap).
    """
    if len(others) == 0:
        return residuals
    gaps = np.abs(values[:, None] - others[None, :]).min(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(residuals > gaps, residuals, residuals**2 / np.maximum(gaps, np.finfo(float).tiny))
