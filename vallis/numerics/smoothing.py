"""A spectral density as a curve: each eigenvalue a Gaussian of a declared width, with a band that is a bound.

Between its nodes, quadrature leaves open where the weight lies. Its bounds of the cumulative weights hold for the true
spectrum, and bound the smoothed curve in turn; the scatter between probes is added to them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vallis.core.errors import SettingsError
from vallis.numerics.density import Band, Density
from vallis.numerics.probes import Floats, band
from vallis.numerics.quadrature import Quadrature

Scale = Literal["linear", "log"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """How a density is smoothed.

    Attributes:
        width: the standard deviation of the Gaussian: in the unit of the eigenvalues, or in decades.
        scale: "log" smooths in ``asinh(x / (2 floor)) / ln 10``: decades on both sides, linear around zero.
        floor: below this magnitude the log scale is linear.
    """

    width: float
    scale: Scale = "linear"
    floor: float = 1.0

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.floor > 0):
            raise SettingsError(f"a width and a floor above 0 were required, {self} came: raise them")

    def coordinate(self, values: Floats) -> Floats:
        """``(...)`` where eigenvalues lie on the axis that is smoothed."""
        return values if self.scale == "linear" else np.arcsinh(values / (2 * self.floor)) / math.log(10)

    def values(self, coordinates: Floats) -> Floats:
        """``(...)`` the eigenvalues at some places of the axis."""
        return coordinates if self.scale == "linear" else 2 * self.floor * np.sinh(coordinates * math.log(10))

    def height(self, distances: Floats) -> Floats:
        """``(...)`` the Gaussian, of area one, at some distances on the axis."""
        return np.asarray(np.exp(-0.5 * (distances / self.width) ** 2) / (self.width * math.sqrt(2 * math.pi)))


def smoothed(density: Density, points: Floats, kernel: Kernel, level: float = 0.95) -> Band:
    """``(G,)`` the density at some points: the share of eigenvalues for each unit of the kernel's axis.

    The band is for the exact spectrum smoothed with the same kernel.
    """
    places = kernel.coordinate(np.asarray(points, dtype=np.float64))
    known = kernel.height(places[:, None] - kernel.coordinate(density.known)).sum(1) / density.size
    if not density.bulk:
        return Band(value=known, low=known, high=known)
    share = density.bulk_fraction
    views = [(kernel.coordinate(seen.nodes), seen) for seen in density.bulk]
    heights = [kernel.height(places[:, None] - nodes) for nodes, _ in views]
    mean, square = (
        np.mean([height**power @ seen.weights for height, (_, seen) in zip(heights, views, strict=True)], axis=0)
        for power in (1, 2)
    )
    bounds = np.array([_bounds(seen, places, kernel) for seen in density.bulk])
    least = density.scatter(np.maximum(0.0, square - mean**2))
    low, high = band(bounds[:, 0], bounds[:, 1], level, (least, least))
    return Band(value=known + share * mean, low=known + share * np.maximum(low, 0.0), high=known + share * high)


def _bounds(seen: Quadrature, places: Floats, kernel: Kernel) -> tuple[Floats, Floats]:
    """``(G,)`` the least and the most that the smoothed curve of one probe can be.

    It is the integral of the cumulative weights against the slope of the kernel, which rises up to the place and falls
    beyond: most of it comes where the weights rise as late as they can before, and as early as they can after.
    """
    breaks, below, above = seen.staircase()
    ends = np.concatenate([[-np.inf], kernel.coordinate(breaks), [np.inf]]) - places[:, None]
    before, after = np.minimum(ends, 0.0), np.maximum(ends, 0.0)
    rise = np.diff(kernel.height(before), axis=1)
    fall = -np.diff(kernel.height(after), axis=1)
    return fall @ below - rise @ above, fall @ above - rise @ below
