"""The plane through three points, of inputs or of weights, with orthonormal axes.

The first axis leads from the first point to the second; the second axis is what the way to the third point has across
it (Gram-Schmidt). So distances on the picture are distances in the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import UsageError

Floats = NDArray[np.float64]
_FLAT = 1e-6  # the share of the third side that must be across the first


@dataclass(frozen=True, eq=False)
class Plane:
    """An affine plane ``origin + x first + y second``.

    Attributes:
        origin: ``(D,)`` the first point.
        first: ``(D,)`` of length one.
        second: ``(D,)`` of length one, at a right angle to the first.
    """

    origin: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor

    def at(self, x: float, y: float, out: torch.Tensor | None = None) -> torch.Tensor:
        """``(D,)`` the point at these coordinates, put into `out` where there is one."""
        out = torch.empty_like(self.origin) if out is None else out
        return torch.add(self.origin, self.first, alpha=x, out=out).add_(self.second, alpha=y)

    def grid(self, x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> torch.Tensor:
        """``(len(y) * len(x), D)`` the points of a grid, row after row."""
        xs, ys = (torch.as_tensor(np.asarray(held), dtype=self.origin.dtype) for held in (x, y))
        xs, ys = xs.to(self.origin.device), ys.to(self.origin.device)
        rows = self.origin + ys[:, None, None] * self.second + xs[None, :, None] * self.first
        return rows.reshape(-1, self.origin.numel())

    def coordinates(self, points: torch.Tensor) -> Floats:
        """``(n, 2)`` where points ``(n, D)`` stand on the plane, or their feet on it."""
        away = points.to(self.origin) - self.origin
        found: Floats = torch.stack([away @ self.first, away @ self.second], dim=1).double().cpu().numpy()
        return found

    def distances(self, points: torch.Tensor) -> Floats:
        """``(n,)`` how far points ``(n, D)`` are from the plane."""
        held = points.to(self.origin)
        feet = torch.from_numpy(self.coordinates(held)).to(self.origin)
        flat = self.origin + feet[:, :1] * self.first + feet[:, 1:] * self.second
        found: Floats = (held - flat).norm(dim=1).double().cpu().numpy()
        return found


def plane_through(points: Sequence[torch.Tensor]) -> Plane:
    """The plane through three points ``(D,)``.

    Raises:
        UsageError: they are not three of one shape, or lie on a line.
    """
    shapes = sorted({tuple(point.shape) for point in points})
    if len(points) != 3 or len(shapes) != 1 or len(shapes[0]) != 1:
        raise UsageError(f"three vectors of one length were required, {len(points)} of {shapes} came: give three")
    origin, along, third = points[0], points[1] - points[0], points[2] - points[0]
    if not float(along.norm()) > 0:
        raise UsageError("three points that differ were required, two are one: choose others")
    first = along / along.norm()
    across = third - (third @ first) * first
    across = across - (across @ first) * first  # once more, for rounding
    if not float(across.norm()) > _FLAT * float(third.norm()):
        raise UsageError("three points that are not on one line were required, these are: choose others")
    return Plane(origin, first, across / across.norm())


def box_around(coordinates: Floats, margin: float = 0.2, square: bool = True) -> tuple[float, float, float, float]:
    """``(x_low, x_high, y_low, y_high)`` around points ``(n, 2)``, with so much of its longer side beyond them.

    Args:
        coordinates: of the points.
        margin: as a share of the longer side.
        square: make both sides as long as the longer one.
    """
    low, high = coordinates.min(0), coordinates.max(0)
    sides, middle = high - low, (high + low) / 2
    longest = float(sides.max()) or 1.0
    half = (np.full(2, longest) if square else np.maximum(sides, 1e-9 * longest)) / 2 + margin * longest
    return (
        float(middle[0] - half[0]),
        float(middle[0] + half[0]),
        float(middle[1] - half[1]),
        float(middle[1] + half[1]),
    )
