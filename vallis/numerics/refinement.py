"""A plane of losses refined where it has to be: most of its points are interpolated from those that were computed.

Squares of a coarse grid are cut in four, round by round, where the losses are predicted worst: the doubt of a square is
the error that predictions at its corners had when those were computed, and the larger it is the more it counts.
Predictions are those of a spline through all losses that are known, either thin-plate or cubic (exact for cubic
polynomials), whichever has been better of late. The grid of half the density within the coarse one says where to begin,
at no cost.

How good that is was measured on 36 surfaces: the mean area on the wrong side of seven contours of the logarithm, with a
third of the evaluations of a full grid of 25 by 25 points at most, over what it is on that grid. Geometric means, the
range, and in brackets the scheme that halved whole levels first:

- 9 smooth ones: 0.51, 0.29 to 1.00 (0.58, 0.26 to 1.24)
- 8 planes of networks as they are trained (MLPs on spirals and digits): 0.52, 0.35 to 0.94 (0.62, 0.34 to 1.03)
- 4 of networks trained with poison, which bend everywhere: 1.45, 1.23 to 1.82 (1.57, 1.21 to 2.02)
- 9 kinked valleys, narrow and turned: 1.12, 0.88 to 1.23 (1.43, 0.96 to 1.65)
- 6 with kinks that cross the plane: 1.83, 1.23 to 4.37, where they lie on lines of the full grid (2.01, 1.46 to 3.96)

So a third is enough where the surface is smooth or walled, and not where it is rough at the scale of the grid. Such
surfaces tell: errors of predictions fall by less than five when squares are cut for the second time or more, see
`Refined.is_rough`. The five was chosen on 18 of the surfaces; of the other 18 it was right about 16.

Source: Duchon (1977), Splines minimizing rotation-invariant semi-norms in Sobolev spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vallis.core.errors import SettingsError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Cell = tuple[int, int, int]  # its side, first row and first column, in steps of the finest grid
# A round computes so much of what is left to compute.
_ROUND, _FEWEST = 0.25, 5
# Between the length of a contour through a square, which goes with its side, and its area.
_BY_SIDE = 1.5
# Kernel, degree of the polynomial, and how many points that takes.
_SPLINES = (("thin_plate_spline", 1, 3), ("cubic", 3, 16))
# With more points, a spline goes through the nearest of them only.
_MOST_IN_ONE, _NEAREST = 2500, 100
_ROUGH = 0.2


@dataclass(frozen=True, kw_only=True, eq=False)
class Refined:
    """A plane, partly computed.

    Attributes:
        losses: ``(m, m)``; those that were not computed are interpolated, on the scale on which they were refined.
        computed: ``(m, m)`` which were.
        steps: ``(m,)`` the coordinates of rows and columns.
        off: the largest error of a prediction in the last round that computed anything, on the scale of refinement. NaN
            where there was none.
        gain: the errors of predictions in squares that were halved for the second time or more, over what they were
            before; NaN where none was.
    """

    losses: Floats
    computed: Mask
    steps: Floats
    off: float
    gain: float

    @property
    def num_computed(self) -> int:
        """How many losses were computed."""
        return int(self.computed.sum())

    @property
    def is_rough(self) -> bool:
        """Whether predictions hardly got better: a full grid of three times the evaluations is then better."""
        return self.gain > _ROUGH


def refined_plane(
    losses: Callable[[Sequence[Sequence[float]]], Floats],
    span: float,
    *,
    coarse: int = 7,
    levels: int = 3,
    tolerance: float = 0.05,
    most: int | None = None,
    is_log: bool = True,
) -> Refined:
    """The losses on ``[-span, span]²``, on a grid that is halved `levels` times where predictions are off.

    Args:
        losses: ``(n,)`` the losses at points ``(n, 2)``, as `vallis.numerics.slices.Landscape.losses`; the first
            coordinate is that of the columns. It is asked about ten times.
        span: half the side of the plane.
        coarse: points on a side of the coarsest grid; odd, so that the origin is one of them.
        levels: how often the grid is halved: there are ``(coarse - 1) 2^levels + 1`` points on a side in the end.
        tolerance: how far off a prediction may be, on the scale of refinement, for points beside it to be predicted.
        most: the most losses to compute beyond the coarsest grid's; the worst squares come first. None sets no limit.
        is_log: refine the logarithm of the loss, on which contours of walls are evenly spaced; losses that are not
            positive, or not finite, are refined as they are.

    Raises:
        SettingsError: the coarse grid is too small, or has no middle, or the tolerance is not positive.
    """
    if coarse < 5 or coarse % 2 == 0 or levels < 1 or not (tolerance > 0 and span > 0):
        raise SettingsError(
            "an odd coarse grid of at least 5 points, a level, and span and tolerance above 0 were required, "
            f"coarse={coarse}, levels={levels}, span={span}, tolerance={tolerance} came: change them"
        )
    side = 2**levels
    work = _Work(losses, span, (coarse - 1) * side + 1, is_log)
    work.begin(side)
    places = range(0, work.size - 1, side)
    cells: set[Cell] = {(side, row, column) for row in places for column in places}
    again: list[tuple[Cell, float]] = []
    off = np.nan
    while True:
        left = work.size**2 if most is None else most - int(work.computed.sum())
        doubts = {cell: doubt for cell in cells if (doubt := work.doubt(cell, tolerance)) > 0}
        worst = sorted(doubts, key=lambda cell: (-doubts[cell] * cell[0] ** _BY_SIDE, cell))
        cut, chosen = _fitting(worst, work.computed, left, left if most is None else max(left * _ROUND, _FEWEST))
        if not cut:
            break
        again += [(cell, doubts[cell]) for cell in cut if cell[0] < side]
        off = work.look(chosen) if chosen.any() else off
        cells = cells.difference(cut).union(part for cell in cut for part in _quarters(cell))
    after = [float(work.errors[_middles(cell)].mean()) for cell, _ in again]
    return Refined(
        losses=work.losses(),
        computed=work.computed,
        steps=work.steps,
        off=off,
        gain=sum(after) / sum(doubt for _, doubt in again) if again else np.nan,
    )


class _Work:
    """The grid as it is filled.

    Attributes:
        values: on the scale of refinement; NaN where they are unknown or not finite.
        errors: how far off the prediction was of each that was computed.
    """

    def __init__(self, losses: Callable[..., Floats], span: float, size: int, is_log: bool) -> None:
        self._losses, self._is_log = losses, is_log
        self.size = size
        half = np.linspace(0.0, span, size // 2 + 1)
        self.steps = np.concatenate([-half[:0:-1], half])
        self.values = np.full((size, size), np.nan)
        self.exact = np.full((size, size), np.nan)
        self.errors = np.zeros((size, size))
        self.computed = np.zeros((size, size), dtype=bool)
        self._scores = np.zeros(len(_SPLINES))

    def begin(self, side: int) -> None:
        """Computes the coarsest grid, and predicts it from its own half."""
        self._compute(_nodes(self.size, side))
        half = _nodes(self.size, 2 * side)
        new = _nodes(self.size, side) & ~half
        self._judge(new, self._predicted(half, new))

    def look(self, chosen: Mask) -> float:
        """Computes points, and returns the largest error of their predictions."""
        predicted = self._predicted(self.computed, chosen)
        self._compute(chosen)
        self._judge(chosen, predicted)
        return float(self.errors[chosen].max())

    def doubt(self, cell: Cell, tolerance: float) -> float:
        """How far off predictions in a square are thought to be: the mean of what they were at its corners.

        Of a square that cannot be cut, has no finite loss at any corner, or none that was off by the tolerance, zero.
        """
        side, row, column = cell
        corners = [(r, c) for r in (row, row + side) for c in (column, column + side)]
        if side == 1 or not any(np.isfinite(self.values[corner]) for corner in corners):
            return 0.0
        # The corner that was there before the square was cut out of a larger one tells of that.
        new = [corner for corner in corners if any(place % (2 * side) for place in corner)]
        errors = [self.errors[corner] for corner in new]
        return float(np.mean(errors)) if max(errors) > tolerance else 0.0

    def losses(self) -> Floats:
        """What is known, and predictions for the rest; beside what is not finite, that."""
        unknown = ~self.computed
        if not unknown.any():
            return self.exact
        values = self._predicted(self.computed, unknown)[int(np.argmin(self._scores))]
        found = self.exact.copy()
        found[unknown] = np.exp(values) if self._is_log else values
        if not np.isfinite(self.values[self.computed]).all():
            nearest = self.exact[_nearest(unknown)][unknown]
            found[unknown] = np.where(np.isfinite(nearest), found[unknown], nearest)
        return found

    def _compute(self, chosen: Mask) -> None:
        rows, columns = np.nonzero(chosen)
        found = self._losses([(self.steps[c], self.steps[r]) for r, c in zip(rows, columns, strict=True)])
        if self._is_log and not self.computed.any():
            # Decided once, by the coarsest grid: one scale for all levels.
            self._is_log = bool(np.all(found[np.isfinite(found)] > 0))
        self.exact[chosen] = found
        self.values[chosen] = self._scaled(found)
        self.computed |= chosen

    def _predicted(self, known: Mask, wanted: Mask) -> list[Floats]:
        """The predictions of each spline."""
        known = known & np.isfinite(self.values)
        at = self._places(wanted)
        return [_spline(*spline, self._places(known), self.values[known], at) for spline in _SPLINES]

    def _judge(self, new: Mask, predicted: Sequence[Floats]) -> None:
        """Takes the errors of the spline that has been better, the last round counting as much as all before."""
        errors = [np.abs(self.values[new] - each) for each in predicted]
        self._scores = self._scores / 2 + [float(np.nansum(each)) for each in errors]
        finite = self.values[np.isfinite(self.values)]
        # An edge of what is finite is as bad as the largest difference there is.
        worst = float(np.ptp(finite)) if len(finite) else np.inf
        best = errors[int(np.argmin(self._scores))]
        self.errors[new] = np.where(np.isfinite(best), best, worst)

    def _places(self, mask: Mask) -> Floats:
        rows, columns = np.nonzero(mask)
        return np.stack([self.steps[columns], self.steps[rows]], axis=1)

    def _scaled(self, losses: Floats) -> Floats:
        kept = np.where(np.isfinite(losses), losses, np.nan)
        return np.asarray(np.log(np.maximum(kept, np.finfo(float).tiny))) if self._is_log else kept


def _nodes(size: int, spacing: int) -> Mask:
    marks = np.zeros((size, size), dtype=bool)
    marks[::spacing, ::spacing] = True
    return marks


def _middles(cell: Cell) -> tuple[list[int], list[int]]:
    """The middle of a square and those of its sides, rows and columns."""
    side, row, column = cell
    half = side // 2
    return [row + half, row, row + side, row + half, row + half], [column + half] * 3 + [column, column + side]


def _quarters(cell: Cell) -> Iterable[Cell]:
    side, row, column = cell
    half = side // 2
    return [(half, row + down, column + right) for down in (0, half) for right in (0, half)]


def _fitting(cells: Sequence[Cell], computed: Mask, left: int, enough: float) -> tuple[list[Cell], Mask]:
    """The first squares until they want enough new points, without those that want more than are left; the points."""
    chosen, cut = np.zeros_like(computed), []
    for cell in cells:
        new = [place for place in zip(*_middles(cell), strict=True) if not (computed[place] or chosen[place])]
        num_chosen = int(chosen.sum())
        if num_chosen >= enough:
            break
        if num_chosen + len(new) > left:
            continue
        for place in new:
            chosen[place] = True
        cut.append(cell)
    return cut, chosen


def _spline(kernel: str, degree: int, fewest: int, points: Floats, values: Floats, at: Floats) -> Floats:
    """A spline through values ``(n,)`` at points ``(n, 2)``; through fewer than it takes, a simpler one."""
    from scipy.interpolate import RBFInterpolator

    if not len(at) or len(points) < 3:
        return np.full(len(at), values.mean() if len(values) else np.nan)
    few = None if len(points) <= _MOST_IN_ONE else _NEAREST
    try:
        found = RBFInterpolator(
            points, values, kernel=kernel, degree=degree if len(points) >= fewest else 1, neighbors=few
        )
        return np.asarray(found(at))
    except np.linalg.LinAlgError:  # all of them on one line
        return np.full(len(at), values.mean())


def _nearest(unknown: Mask) -> tuple[NDArray[np.int64], ...]:
    """``(m, m)`` rows and columns of the nearest place that is known."""
    from scipy.ndimage import distance_transform_edt

    return tuple(distance_transform_edt(unknown, return_distances=False, return_indices=True))
