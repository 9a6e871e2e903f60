"""Curves between points of weight space, walked in one working vector: no point of a path costs a clone of the model.

Every curve here is a combination of control points, ``theta(t) = sum_k c_k(t) P_k`` for t in [0, 1]: a straight line, a
Bezier curve (Garipov et al. 2018, eq. 3), a chain of segments. The ends are met bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import UsageError
from vallis.core.objective import Objective, Point

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Path:
    """A curve ``theta(t)``.

    Attributes:
        controls: P_k, ``(P,)`` each; the first and the last are the ends.
        basis: c_k(t), one number for each control.
        knots: the t in (0, 1) at which the curve bends and which whoever walks it should not miss.
    """

    controls: Sequence[torch.Tensor]
    basis: Callable[[float], Sequence[float]]
    knots: tuple[float, ...] = ()

    def write(self, t: float, out: torch.Tensor) -> torch.Tensor:
        """Puts theta(t) into `out` ``(P,)`` and returns it."""
        if t in (0.0, 1.0):
            return out.copy_(self.controls[0] if t == 0.0 else self.controls[-1])
        shares = [(share, held) for share, held in zip(self.basis(t), self.controls, strict=True) if share]
        torch.mul(shares[0][1], shares[0][0], out=out)
        for share, held in shares[1:]:
            out.add_(held, alpha=share)
        return out

    def length(self, num_points: int = 101) -> float:
        """Its Euclidean length, by so many points and the knots."""
        moments = sorted({*np.linspace(0, 1, num_points).tolist(), *self.knots})
        before, after, total = torch.empty_like(self.controls[0]), torch.empty_like(self.controls[0]), 0.0
        self.write(0.0, before)
        for t in moments[1:]:
            total += float((self.write(t, after) - before).norm())
            before, after = after, before
        return total


def straight(start: torch.Tensor, end: torch.Tensor) -> Path:
    """The segment ``(1 - t) start + t end``."""
    _must_fit([start, end])
    return Path([start, end], lambda t: (1 - t, t))


def bezier(controls: Sequence[torch.Tensor]) -> Path:
    """The Bezier curve of K control points: ``sum_k comb(K-1, k) t^k (1-t)^(K-1-k) P_k``."""
    _must_fit(controls)
    degree = len(controls) - 1
    return Path(controls, lambda t: [comb(degree, k) * t**k * (1 - t) ** (degree - k) for k in range(degree + 1)])


def chain(pivots: Sequence[torch.Tensor]) -> Path:
    """Straight segments through the pivots, at a speed that is constant: t is the share of the length.

    Raises:
        UsageError: there are fewer than two pivots, of one shape, or all are one point.
    """
    _must_fit(pivots)
    places = shares_of_length(pivots)

    def basis(t: float) -> list[float]:
        after = min(int(np.searchsorted(places, t, side="right")), len(places) - 1)
        span = places[after] - places[after - 1]
        found = np.zeros(len(places))
        found[after] = (t - places[after - 1]) / span if span else 1.0
        found[after - 1] = 1 - found[after]
        return [float(share) for share in found]

    return Path(pivots, basis, tuple(places[1:-1].tolist()))


def shares_of_length(pivots: Sequence[torch.Tensor]) -> Floats:
    """``(K,)`` where each pivot lies on the chain, as a share of its length: from 0 to 1.

    Raises:
        UsageError: all pivots are one point.
    """
    lengths = [float((after - before).double().norm()) for before, after in pairwise(pivots)]
    if not sum(lengths) > 0:
        raise UsageError("pivots that differ were required, all are one point: give two different ends")
    return np.concatenate([[0.0], np.cumsum(lengths[:-1]) / sum(lengths), [1.0]])


class Walk:
    """An objective along a path, in one working vector.

    Args:
        objective: the loss surface; its buffers are those of the start.
        path: the curve.
    """

    def __init__(self, objective: Objective, path: Path) -> None:
        if path.controls[0].numel() != objective.num_parameters:
            raise UsageError(
                f"a path of vectors ({objective.num_parameters},) was required, ({path.controls[0].numel()},) came: "
                "make it of vectors of this objective"
            )
        self.objective, self.path = objective, path
        self._vector = torch.empty(objective.num_parameters, dtype=objective.dtype, device=objective.device)
        self._point = objective.point(self._vector)

    def to(self, t: float) -> Point:
        """The point at t; it is overwritten by the next."""
        self.path.write(t, self._vector)
        return self._point


def _must_fit(controls: Sequence[torch.Tensor]) -> None:
    shapes = {tuple(held.shape) for held in controls}
    if len(controls) < 2 or len(shapes) != 1:
        raise UsageError(
            f"at least two vectors of one shape were required, {len(controls)} of {sorted(shapes)} came: "
            "give points of one weight space"
        )
