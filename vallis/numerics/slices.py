"""The loss along a line or on a plane through a point of weight space.

Every grid point is computed afresh as ``origin + a d (+ b e)`` in one working copy of the parameters: nothing adds up
from point to point, the origin itself is met bit for bit, and no point costs a clone. What is not finite is kept so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.data import Stream
from vallis.core.errors import UsageError
from vallis.core.objective import Objective, Point
from vallis.core.progress import track

Floats = NDArray[np.float64]


def line(objective: Objective, direction: Point, coefficients: Sequence[float] | Floats) -> Floats:
    """``(n,)`` the losses at ``origin + a direction`` for the coefficients a ``(n,)``.

    Args:
        objective: the loss surface.
        direction: a tensor a parameter, as in `Objective.origin`.
        coefficients: a.

    Raises:
        UsageError: the direction has other shapes than the parameters.
    """
    steps = [float(a) for a in coefficients]
    moving = _Moving(objective, [direction])
    return _losses(objective, lambda place: moving.to([steps[place]]), len(steps), "line")


def plane(
    objective: Objective, first: Point, second: Point, x: Sequence[float] | Floats, y: Sequence[float] | Floats
) -> Floats:
    """``(len(y), len(x))`` the losses at ``origin + x first + y second``.

    Raises:
        UsageError: a direction has other shapes than the parameters.
    """
    grid = [(float(b), float(a)) for b in y for a in x]
    moving = _Moving(objective, [second, first])
    losses = _losses(objective, lambda place: moving.to(grid[place]), len(grid), "plane")
    return losses.reshape(len(y), len(x))


class _Moving:
    """A point that moves along directions from the origin; ``origin + b second`` is kept while only a changes."""

    def __init__(self, objective: Objective, directions: Sequence[Point]) -> None:
        for direction in directions:
            _must_fit(objective, direction)
        self._directions = [
            [part.to(value) for part, value in zip(d, objective.origin, strict=True)] for d in directions
        ]
        self._levels = [objective.origin, *([torch.empty_like(v) for v in objective.origin] for _ in directions)]
        self._steps: list[float | None] = [None] * len(directions)

    def to(self, steps: Sequence[float]) -> Point:
        """The point at these steps along the directions; it is overwritten by the next."""
        if not any(steps):
            return self._levels[0]  # not a copy: kernels may round by where in memory a tensor lies
        for level, step in enumerate(steps):
            if self._steps[level] == step:
                continue
            self._steps[level:] = [step, *[None] * (len(steps) - level - 1)]
            parts = zip(self._levels[level], self._directions[level], self._levels[level + 1], strict=True)
            for start, along, end in parts:
                torch.add(start, along, alpha=step, out=end)
        return self._levels[-1]


def _losses(objective: Objective, point: Callable[[int], Point], num_points: int, label: str) -> Floats:
    """The losses at some points. Data that must be read anew at every pass are read once, with all points a batch."""
    losses = np.zeros(num_points)
    if not isinstance(objective.data, Stream):
        for place in track(range(num_points), label, num_points):
            losses[place] = objective.value(point(place))
        return losses
    with torch.no_grad():
        for term in track(objective.terms(), label):
            for place in range(num_points):
                losses[place] += term.share * term.loss(point(place)).double().item()
    return losses


def _must_fit(objective: Objective, direction: Point) -> None:
    wanted, came = ([tuple(value.shape) for value in held] for held in (objective.origin, direction))
    if wanted != came:
        raise UsageError(f"a direction with shapes {wanted} was required, {came} came: give one tensor a parameter")
