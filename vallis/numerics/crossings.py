"""Where functions of one variable first reach a level, for many of them together.

Along a ray from a minimum the rise of the loss is nearly a power of the step: a straight line between logarithms, of
slope two where the loss is a quadratic. So the search runs there: a secant inside of a bracket, which aims a little
beyond where it expects the crossing, so that the bracket closes from its far side, and which halves the weight of an
end that stays (Illinois) and cuts the bracket in two wherever it shrinks too slowly. All rays take a step in one call,
and those that are done are left out of the next.

Source: Dowell and Jarratt (1971), A modified regula falsi method (the halved weight).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Of rays ``(M,)`` and steps along them ``(M,)`` the losses ``(M,)``.
Losses = Callable[[Ints, Floats], Floats]

# A rise above this many times the one that is looked for says no more than that, and need not be computed.
STEEPEST = 100.0
_FLATTEST = 1e-6
# Below this share of the cap no crossing is looked for: the loss jumps there.
_SMALLEST = 1e-12
_AIM = 0.45
_GROWTH = 4.0
_PATIENCE = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Crossings:
    """Where K functions first reach a level, as far as was seen.

    Attributes:
        radii: ``(K,)`` the step of the crossing; the cap where there is none before it, 0 where there is none to find.
        lower: ``(K,)`` a step at which the function was still below the level; 0 for the centre.
        upper: ``(K,)`` one at which it no longer was; infinite where it is below the level at the cap.
        num_evaluations: ``(K,)`` how often each was computed.
        is_earlier: ``(K,)`` whether looking for earlier crossings found one.
    """

    radii: Floats
    lower: Floats
    upper: Floats
    num_evaluations: Ints
    is_earlier: NDArray[np.bool_]

    @property
    def is_capped(self) -> NDArray[np.bool_]:
        """``(K,)`` whether the function stays below the level up to the cap."""
        return np.isinf(self.upper)

    def __len__(self) -> int:
        return len(self.radii)

    @staticmethod
    def joined(parts: Sequence[Crossings]) -> Crossings:
        """Those of several groups of rays, one after the other."""
        names = [field.name for field in fields(Crossings)]
        return Crossings(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def first_crossings(
    losses: Losses,
    num_rays: int,
    *,
    centre: float,
    cutoff: float,
    cap: float = 1.0,
    tolerance: float = 0.01,
    start: float | None = None,
    num_scans: int = 0,
    done: Callable[[int], object] = lambda count: None,
) -> Crossings:
    """The first steps c > 0 at which functions reach a cutoff.

    A bracket certifies each of them: the function is below the cutoff at `lower`, not below it at `upper`, and their
    ratio is at most one plus the tolerance. That no earlier crossing lies between two steps that were looked at cannot
    be certified; `num_scans` looks at more of them.

    Args:
        losses: the functions; what is NaN counts as above the cutoff. Called with each ray at most `num_scans` times.
        num_rays: K.
        centre: the value that all of them have at 0.
        cutoff: the level.
        cap: the largest step.
        tolerance: relative, of each crossing.
        start: the first step to look at; a tenth of the cap if None.
        num_scans: at so many steps, evenly spaced before each crossing that was found, an earlier one is looked for.
        done: is told how many more rays are finished.
    """
    search = _Search(losses, num_rays, centre=centre, cutoff=cutoff, cap=cap, tolerance=tolerance)
    if not centre < cutoff:
        done(num_rays)
        return search.found()
    first = math.log(min(cap, start or cap / 10))
    search.run(np.arange(num_rays), np.full(num_rays, first), done)
    if num_scans:
        search.scan(num_scans)
    return search.found()


class _Search:
    """The brackets of all rays, in logarithms of the step and of the rise over that to the cutoff."""

    def __init__(
        self, losses: Losses, num_rays: int, *, centre: float, cutoff: float, cap: float, tolerance: float
    ) -> None:
        self.losses, self.centre, self.cutoff = losses, centre, cutoff
        self.most, self.width = math.log(cap), math.log1p(tolerance)
        self.aim = _AIM * self.width
        # Column 0 is the end below the cutoff, column 1 the other.
        self.ends = np.tile([-np.inf, np.inf], (num_rays, 1))
        self.heights = np.tile([-np.inf, np.inf], (num_rays, 1))
        self.num_evaluations = np.zeros(num_rays, dtype=np.int64)
        self.is_earlier = np.zeros(num_rays, dtype=bool)

    def run(self, rays: Ints, places: Floats, done: Callable[[int], object] = lambda _: None) -> None:
        """Looks at places on rays, and goes on until their brackets are closed."""
        progress = _Progress(len(self.ends))
        while len(rays):
            heights, is_above = self._look(rays, places)
            side = is_above.astype(np.int64)
            self.ends[rays, side], self.heights[rays, side] = places, heights
            progress.note(rays, side, self.ends)
            is_closed = self._is_closed(rays)
            done(int(is_closed.sum()))
            rays = rays[~is_closed]
            places = self._next(rays, progress)

    def scan(self, num_scans: int) -> None:
        """Looks before the crossings that were found, until nothing earlier shows."""
        rays = np.arange(len(self.ends))
        shares = np.arange(1, num_scans + 1) / (num_scans + 1)
        while len(rays):
            places = self._ends(rays)[:, :1] + np.log(shares)
            flat_heights, flat_above = self._look(np.repeat(rays, num_scans), places.ravel())
            heights, is_above = flat_heights.reshape(places.shape), flat_above.reshape(places.shape)
            hit = is_above.any(1)
            rays, places, heights, first = rays[hit], places[hit], heights[hit], is_above[hit].argmax(1)
            self.is_earlier[rays] = True
            row = np.arange(len(rays))
            self.ends[rays] = np.stack([_before(places, row, first), places[row, first]], 1)
            self.heights[rays] = np.stack([_before(heights, row, first), heights[row, first]], 1)
            left = ~self._is_closed(rays)
            self.run(rays[left], self._next(rays[left], _Progress(len(self.ends))))

    def found(self) -> Crossings:
        """What is known now."""
        lower, upper = np.exp(self.ends.T)
        (low, high), (below, above) = self.ends.T, self.heights.T
        with np.errstate(invalid="ignore"):
            inside = np.clip(low - below * (high - low) / (above - below), low, high)
        radii = np.where(np.isinf(upper), lower, np.exp(np.where(lower > 0, inside, -np.inf)))
        if not self.centre < self.cutoff:
            radii, lower, upper = np.zeros((3, len(radii)))
        return Crossings(
            radii=radii,
            lower=lower,
            upper=upper,
            num_evaluations=self.num_evaluations,
            is_earlier=self.is_earlier,
        )

    def _look(self, rays: Ints, places: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        np.add.at(self.num_evaluations, rays, 1)
        losses = np.asarray(self.losses(rays, np.exp(places)), dtype=np.float64)
        is_above = ~(losses < self.cutoff)
        rises = (losses - self.centre) / (self.cutoff - self.centre)
        rises = np.where(is_above & ~(rises < STEEPEST), STEEPEST, rises)
        return np.log(np.maximum(rises, _FLATTEST)), is_above

    def _ends(self, rays: Ints) -> Floats:
        """``(M, 2)`` the brackets, the upper end at most the cap."""
        return np.asarray(np.minimum(self.ends[rays], self.most))

    def _is_closed(self, rays: Ints) -> NDArray[np.bool_]:
        low, high = self.ends[rays].T
        is_narrow = high - low <= self.width
        return np.asarray(is_narrow | (low >= self.most) | (high <= self.most + math.log(_SMALLEST)))

    def _next(self, rays: Ints, progress: _Progress) -> Floats:
        (low, high), (below, above) = self.ends[rays].T, progress.weighted(rays, self.heights).T
        reach = self.aim * _GROWTH ** progress.run_length[rays]
        with np.errstate(invalid="ignore"):
            falling = high - np.maximum(above / 2 + self.aim, reach)
            rising = np.minimum(low + np.maximum(-below / 2 + self.aim, reach), self.most)
            inside = self._inside(low, high, below, above)
            inside = np.where(progress.is_slow(rays), (low + high) / 2, inside)
        return np.where(np.isinf(low), falling, np.where(np.isinf(high), rising, inside))

    def _inside(self, low: Floats, high: Floats, below: Floats, above: Floats) -> Floats:
        """The secant's crossing, moved a little towards the end that is farther away."""
        guess = low - below * (high - low) / (above - below)
        guess = guess + self.aim * np.where(guess - low < high - guess, 1, -1)
        margin = np.minimum(self.aim, (high - low) / 3)
        return np.clip(guess, low + margin, high - margin)


class _Progress:
    """How the last steps of each ray went."""

    def __init__(self, num_rays: int) -> None:
        self.last_side = np.full(num_rays, -1)
        self.run_length = np.zeros(num_rays, dtype=np.int64)
        self.widths = np.full((_PATIENCE + 1, num_rays), np.inf)

    def note(self, rays: Ints, side: Ints, ends: Floats) -> None:
        """A step of these rays moved this end of their brackets."""
        is_same = self.last_side[rays] == side
        self.run_length[rays] = np.where(is_same, self.run_length[rays] + 1, 0)
        self.last_side[rays] = side
        self.widths[:, rays] = np.roll(self.widths[:, rays], -1, axis=0)
        self.widths[-1, rays] = ends[rays, 1] - ends[rays, 0]

    def weighted(self, rays: Ints, heights: Floats) -> Floats:
        """``(M, 2)`` the heights, that of an end that stayed twice or more halved so often."""
        found = heights[rays].copy()
        row, stayed = np.arange(len(rays)), 1 - self.last_side[rays]
        found[row, stayed % 2] *= 0.5 ** self.run_length[rays]
        return found

    def is_slow(self, rays: Ints) -> NDArray[np.bool_]:
        """``(M,)`` whether the bracket did not lose half of its width in the last steps."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.widths[-1, rays] > self.widths[0, rays] / 2)


def _before(values: Floats, row: Ints, first: Ints) -> Floats:
    """``(M,)`` the value before column `first` of each row; minus infinity where that is the first column."""
    return np.where(first > 0, values[row, np.maximum(first - 1, 0)], -np.inf)
