"""How far the loss rises within a ball around a point: the worst rise, found by ascent, and the mean over directions.

The ball is ``|e| <= radius``, or, relative to the weights, ``|e / |w|| <= radius`` elementwise: then the operator that
normalises is the diagonal matrix of all ``|w_i|``, biases included and nothing added to it. So rescaling layers, or
single units, of a homogeneous network changes no rise, and a weight that is exactly zero does not move.

Source: Foret et al. (2021), Sharpness-aware minimization, eq. 1; Kwon et al. (2021), ASAM, definition 1, with
``T_w = diag(|w|)`` and eta = 0; Wen, Ma and Li (2023), How does sharpness-aware minimization minimize sharpness?,
section 2 (worst and average direction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import SettingsError
from vallis.core.functional import differentiating
from vallis.core.objective import Objective
from vallis.core.progress import bar, track
from vallis.core.rng import Rng, must_be_rng

_FIRST_STEP, _SMALLEST_STEP, _LARGEST_STEP = 4.0, 1e-6, 1e6


@dataclass(frozen=True, kw_only=True, eq=False)
class Ascent:
    """The highest place that was found in a ball.

    Attributes:
        rise: ``L(w + e) - L(w)`` there: the maximum over the ball is at least this.
        rises: ``(R,)`` where each start led; NaN where the loss at the start was no finite number.
        converged: whether the best one is stationary: no direction within the ball rises to first order by more than
            the tolerance, relative to the rise.
        gap: that first-order rise, relative to the rise.
        direction: ``(P,)`` e.
        num_gradients: how many gradients it took.
        met_infinity: whether the loss was NaN or infinite somewhere on the way.
    """

    rise: float
    rises: NDArray[np.float64]
    converged: bool
    gap: float
    direction: torch.Tensor
    num_gradients: int
    met_infinity: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanRise:
    """The mean rise over the sphere.

    Attributes:
        value: the mean.
        stderr: its standard error over directions, and what rounding adds; None with one direction.
        samples: ``(K,)`` the mean of each direction and its opposite.
        rounding: how far rounding may move the value.
    """

    value: float
    stderr: float | None
    samples: NDArray[np.float64]
    rounding: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    u: torch.Tensor
    value: float
    slope: torch.Tensor


def worst_rise(
    objective: Objective,
    radius: float,
    *,
    rng: Rng,
    relative: bool = False,
    starts: Sequence[torch.Tensor] = (),
    num_starts: int = 3,
    max_steps: int = 40,
    tolerance: float = 1e-3,
) -> Ascent:
    """The largest ``L(w + e) - L(w)`` that projected gradient ascent finds in a ball: a lower bound of the maximum.

    A step goes along the gradient, is projected back into the ball, and is taken only if the loss rises; its length
    adapts. The ascents begin in the direction of the gradient, at each of `starts` and its opposite, and at random.

    Args:
        objective: the loss surface; the ball is around its origin.
        radius: of the ball.
        rng: where random starts come from.
        relative: measure e in units of the weights' own sizes.
        starts: directions ``(P,)`` worth trying, e.g. the top eigenvector.
        num_starts: how many random directions beside them.
        max_steps: gradients for each start.
        tolerance: see `Ascent.converged`.

    Raises:
        SettingsError: the radius is not positive, or there is no step.
    """
    must_be_rng(rng)
    if not radius > 0 or max_steps < 1 or num_starts < 0 or not tolerance > 0:
        raise SettingsError(
            "a radius and a tolerance above 0, and at least one step, were required, "
            f"radius={radius}, tolerance={tolerance}, max_steps={max_steps}, num_starts={num_starts} came: raise them"
        )
    with differentiating():
        climb = _Climb(objective, radius, relative)
        directions = climb.directions(starts, num_starts, rng)
        with bar("ascent", len(directions) * max_steps) as moving:
            found = [climb.up(direction, max_steps, tolerance, moving) for direction in directions]
    best = max(found, key=lambda place: place.value if math.isfinite(place.value) else -math.inf)
    if best.value < 0:
        best = climb.middle  # the centre is in the ball, too
    gap = climb.gap(best)
    return Ascent(
        rise=best.value,
        rises=np.array([place.value for place in found]),
        converged=gap <= tolerance,
        gap=gap,
        direction=climb.scaled(best.u),
        num_gradients=climb.num_gradients,
        met_infinity=climb.met_infinity,
    )


def mean_rise(
    objective: Objective, radius: float, *, num_directions: int, rng: Rng, relative: bool = False
) -> MeanRise:
    """The mean of ``L(w + e) - L(w)`` over the sphere ``|e| = radius`` (or relative to the weights).

    Each direction is taken with its opposite, so that the slope of the loss, which has no part in the mean, has none
    in the error bar.

    Raises:
        SettingsError: the radius is not positive, or there is no direction.
    """
    must_be_rng(rng)
    if not radius > 0 or num_directions < 1:
        raise SettingsError(
            f"a radius above 0 and at least one direction were required, radius={radius}, "
            f"num_directions={num_directions} came: raise them"
        )
    samples = np.empty(num_directions)
    with differentiating():
        climb = _Climb(objective, radius, relative)
        for place in track(range(num_directions), "average rise", num_directions):
            u = climb.onto_sphere(_gaussian(objective, rng.child("direction", place)))
            samples[place] = (climb.rise(u) + climb.rise(-u)) / 2
    # The loss at the centre is rounded once, which all samples share, so their scatter does not show it.
    rounding = torch.finfo(objective.dtype).eps * abs(climb.centre)
    stderr = math.hypot(samples.std(ddof=1) / math.sqrt(num_directions), rounding) if num_directions > 1 else None
    return MeanRise(value=float(samples.mean()), stderr=stderr, samples=samples, rounding=rounding)


class _Climb:
    """A ball in which to climb; the loss is met at one working copy of the weights."""

    def __init__(self, objective: Objective, radius: float, relative: bool) -> None:
        self.objective, self.radius = objective, radius
        self.origin = objective.vector(objective.origin).detach()
        self.sizes = self.origin.abs() if relative else None
        self.centre = objective.value()
        self.num_gradients = 0
        self.met_infinity = False
        self._here = torch.empty_like(self.origin)

    def directions(self, starts: Sequence[torch.Tensor], num_starts: int, rng: Rng) -> list[torch.Tensor]:
        """Where to begin, on the sphere."""
        self.num_gradients += 1
        slope = self.unscaled(self.objective.gradient(), of_gradient=True)
        self.middle = _Place(u=torch.zeros_like(slope), value=0.0, slope=slope)
        found = [slope]
        for start in starts:
            along = self.unscaled(start.to(self.origin), of_gradient=False)
            found += [along, -along]
        found += [_gaussian(self.objective, rng.child("start", place)) for place in range(num_starts)]
        live = [direction for direction in found if float(direction.norm()) > 0]
        return [self.onto_sphere(direction) for direction in live] or [torch.zeros_like(self.origin)]

    def up(self, u: torch.Tensor, max_steps: int, tolerance: float, moving: object) -> _Place:
        """Climbs from u; stops where it is stationary, or where no shorter step rises."""
        here, step = self._look(u), _FIRST_STEP
        if not math.isfinite(here.value):
            return _Place(u=u, value=math.nan, slope=torch.zeros_like(u))
        for _ in range(max_steps - 1):
            if self.gap(here) <= tolerance or step < _SMALLEST_STEP:
                break
            there = self._look(self._projected(here, step))
            moving.update(1)  # type: ignore[attr-defined]
            if there.value > here.value:
                here, step = there, min(step * 4, _LARGEST_STEP)
            else:  # also where it is NaN
                step /= 8
        return here

    def gap(self, place: _Place) -> float:
        """``max_v <slope, v - u>`` over the ball, relative to the rise: zero exactly where u is stationary."""
        gap = self.radius * float(place.slope.norm()) - float(place.slope @ place.u)
        if gap <= 0 or not math.isfinite(place.value):
            return 0.0 if math.isfinite(place.value) else math.inf
        return gap / place.value if place.value > 0 else math.inf

    def rise(self, u: torch.Tensor) -> float:
        """The rise at u, without a slope."""
        return self.objective.value(self._point(u)) - self.centre

    def scaled(self, u: torch.Tensor) -> torch.Tensor:
        """e, from u in units of the weights' sizes."""
        return u if self.sizes is None else u * self.sizes

    def unscaled(self, e: torch.Tensor, of_gradient: bool) -> torch.Tensor:
        """u, from e; the slope by u, from that by e."""
        if self.sizes is None:
            return e
        return e * self.sizes if of_gradient else torch.where(self.sizes > 0, e / self.sizes, 0.0)

    def onto_sphere(self, u: torch.Tensor) -> torch.Tensor:
        """u, at a length of the radius."""
        return u * (self.radius / float(u.norm()))

    def _projected(self, here: _Place, step: float) -> torch.Tensor:
        u = here.u + here.slope * (step * self.radius / float(here.slope.norm()))
        return u * min(1.0, self.radius / float(u.norm()))

    def _look(self, u: torch.Tensor) -> _Place:
        self.num_gradients += 1
        at = [value.requires_grad_() for value in self._point(u)]
        value, slope = 0.0, torch.zeros_like(self.origin)
        for term in self.objective.terms():
            loss = term.loss(at)
            value += term.share * float(loss.detach().double())
            if loss.requires_grad:
                found = torch.autograd.grad(loss, at, allow_unused=True, materialize_grads=True)
                slope.add_(self.objective.vector(found), alpha=term.share)
        self.met_infinity |= not math.isfinite(value)
        return _Place(u=u, value=value - self.centre, slope=self.unscaled(slope, of_gradient=True))

    def _point(self, u: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            torch.add(self.origin, self.scaled(u), out=self._here)
        return tuple(part.detach() for part in self.objective.point(self._here))


def _gaussian(objective: Objective, rng: Rng) -> torch.Tensor:
    """``(P,)`` standard normal, drawn on the CPU in float64: the same for every device and dtype."""
    drawn = torch.randn(objective.num_parameters, generator=rng.torch(), dtype=torch.float64)
    return drawn.to(device=objective.device, dtype=objective.dtype)
