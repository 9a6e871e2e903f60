"""Directions given by solutions themselves: from one to another, the plane through three, and where a training went.

Source: Goodfellow et al. (2015), Qualitatively characterizing neural network optimization problems; Garipov et al.
    (2018), Loss surfaces, mode connectivity, and fast ensembling of DNNs, section 3; Li et al. (2018), section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import UsageError
from vallis.core.types import Solution
from vallis.numerics import planes
from vallis.numerics.directions import Tensors

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Span:
    """A flat piece of weight space that lies near given points.

    Attributes:
        origin: the point with the coordinates 0.
        directions: k orthonormal directions, a tensor a parameter each.
        coordinates: ``(T, k)`` where the projection of each of the T points lies.
        explained_fraction: ``(k,)`` each direction's share of the points' squared distances to the origin.
    """

    origin: Tensors
    directions: tuple[Tensors, ...]
    coordinates: Floats
    explained_fraction: Floats


def point_of(solution: Solution) -> Tensors:
    """The solution's parameters, in the order of the module."""
    return tuple(value.detach() for value in solution.params.values())


def between(start: Sequence[torch.Tensor], end: Sequence[torch.Tensor]) -> Tensors:
    """The direction that leads from one point at 0 to another at 1.

    Raises:
        UsageError: the points have other shapes.
    """
    _must_match([start, end])
    return tuple(there - here for here, there in zip(start, end, strict=True))


def plane_through(
    origin: Sequence[torch.Tensor], first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]
) -> Span:
    """The plane through three points: the first axis leads from the origin to the first point, both have length 1.

    Raises:
        UsageError: the points have other shapes, or lie on one line.
    """
    points = [origin, first, second]
    _must_match(points)
    plane = planes.plane_through([_flat(point) for point in points])
    coordinates = torch.from_numpy(plane.coordinates(torch.stack([_flat(point) for point in points])))
    squares = coordinates.square().sum(0)
    return _span(origin, torch.stack([plane.first, plane.second]), coordinates, squares / squares.sum())


def trajectory_span(
    points: Sequence[Sequence[torch.Tensor]], num: int = 2, centre: Literal["last", "mean"] = "last"
) -> Span:
    """The directions in which a trajectory went most: principal components of its points, seen from a centre.

    The largest number in the coordinates along each direction is positive.

    Args:
        points: T of them, in the order of training.
        num: k, at most T - 1 and at most P.
        centre: "last" looks from where the training ended (Li et al.), "mean" from the middle (the usual components).

    Raises:
        UsageError: there are too few points for so many directions, or they have other shapes.
    """
    _must_match(points)
    size = sum(value.numel() for value in points[-1])
    if not 1 <= num <= min(len(points) - 1, size):
        raise UsageError(
            f"between 1 and {min(len(points) - 1, size)} directions were required for {len(points)} points, "
            f"num={num} came: ask for fewer, or keep more snapshots"
        )
    held = torch.stack([_flat(point) for point in points])
    base = held[-1] if centre == "last" else held.mean(0)
    apart = held - base
    left, lengths, right = torch.linalg.svd(apart, full_matrices=False)
    coordinates = (left * lengths)[:, :num]
    signs = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True)).sign().squeeze(0)
    signs = torch.where(signs == 0, torch.ones_like(signs), signs)
    squares = lengths.square()
    share = squares[:num] / squares.sum().clamp(min=torch.finfo(squares.dtype).tiny)
    return _span(_shaped(base, points[-1]), right[:num] * signs[:, None], coordinates * signs, share)


def coordinates_in(span: Span, point: Sequence[torch.Tensor]) -> tuple[Floats, float]:
    """``(k,)`` the coordinates of a point's projection, and how far the point lies from it.

    Raises:
        UsageError: the point has other shapes.
    """
    _must_match([span.origin, point])
    apart = _flat(point) - _flat(span.origin)
    axes = torch.stack([_flat(direction) for direction in span.directions])
    found = axes @ apart
    return np.asarray(found.numpy()), float((apart - found @ axes).norm())


def _span(like: Sequence[torch.Tensor], axes: torch.Tensor, coordinates: torch.Tensor, share: torch.Tensor) -> Span:
    return Span(
        origin=tuple(like),
        directions=tuple(_shaped(axis, like) for axis in axes),
        coordinates=np.asarray(coordinates.numpy()),
        explained_fraction=np.asarray(share.numpy()),
    )


def _flat(point: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.detach().cpu().double().reshape(-1) for value in point])


def _shaped(vector: torch.Tensor, like: Sequence[torch.Tensor]) -> Tensors:
    parts = vector.split([value.numel() for value in like])
    return tuple(part.view(value.shape).to(value) for part, value in zip(parts, like, strict=True))


def _must_match(points: Sequence[Sequence[Any]]) -> None:
    shapes = [[tuple(value.shape) for value in point] for point in points]
    other = next((found for found in shapes if found != shapes[0]), None)
    if other is not None:
        raise UsageError(
            f"points of one network were required, with shapes {shapes[0]}, {other} came: take one architecture"
        )
