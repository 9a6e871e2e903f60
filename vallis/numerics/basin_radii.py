"""How far it is from a point of weight space to the edge of its basin, along many rays.

The basin is where the mean loss stays below a cutoff. Its radius along a ray is the first step at which the loss
reaches the cutoff, or a cap.

Source: Huang et al. (2020), Understanding generalization through visualizations, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.progress import bar
from vallis.numerics.crossings import STEEPEST, Crossings, Floats, first_crossings
from vallis.numerics.memory import spare_bytes
from vallis.numerics.ray_losses import RayLosses
from vallis.numerics.rays import Rays

Level = Literal["absolute", "rise"]
# Some rays go first, so that the others begin near where they will end.
_PILOTS = 8
_SHARE_OF_MEMORY = 8
_MOST_BYTES = 2**28
# A rise of less than so many roundings of the loss is not known to the percent that a radius is.
_RESOLVED = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class BasinRadii:
    """The radii of a basin along K rays.

    Attributes:
        crossings: where the loss reaches the cutoff on each ray.
        log_weights: ``(K,)`` see `vallis.numerics.rays.Drawn`.
        num_coordinates: n, the dimensions of the rays.
        centre: the loss at the centre.
        cutoff: the loss at the edge.
        cap: the largest radius.
        rounding: about how far two losses near the centre may be off for rounding alone.
    """

    crossings: Crossings
    log_weights: Floats
    num_coordinates: int
    centre: float
    cutoff: float
    cap: float
    rounding: float = 0.0

    @property
    def is_rounded(self) -> bool:
        """Whether the rise to the cutoff is so small beside the loss that rounding moves the radii."""
        return self.is_inside and self.cutoff - self.centre < _RESOLVED * self.rounding

    @property
    def radii(self) -> Floats:
        """``(K,)`` relative to the norms of the filters."""
        return self.crossings.radii

    @property
    def num_evaluations(self) -> int:
        """How often the loss was computed."""
        return int(self.crossings.num_evaluations.sum())

    @property
    def is_capped(self) -> NDArray[np.bool_]:
        """``(K,)`` on which rays the loss stays below the cutoff up to the cap."""
        return self.crossings.is_capped

    @property
    def is_inside(self) -> bool:
        """Whether the centre itself lies below the cutoff; else all radii are 0."""
        return self.centre < self.cutoff

    @property
    def log_radii(self) -> Floats:
        """``(K,)`` natural logarithms; minus infinity for a radius of 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.radii))


def cutoff_of(centre: float, cutoff: float, level: Level) -> float:
    """The loss at the edge of a basin.

    Args:
        centre: the loss at its centre.
        cutoff: the loss at the edge, or the rise to it.
        level: which of both: "absolute" or "rise".

    Raises:
        SettingsError: the level is none of the two.
    """
    if level not in ("absolute", "rise"):
        raise SettingsError(f'level="absolute" or level="rise" was required, {level!r} came: choose one')
    return cutoff if level == "absolute" else centre + cutoff


def basin_radii(
    objective: Objective,
    rays: Rays,
    num_rays: int,
    *,
    cutoff: float = 0.1,
    level: Level = "absolute",
    cap: float = 1.0,
    tolerance: float = 0.01,
    num_scans: int = 0,
    first: int = 0,
    start: float | None = None,
) -> BasinRadii:
    """The radii of the basin around the origin of an objective.

    Args:
        objective: the loss surface.
        rays: the directions, from a frame around the origin.
        num_rays: K.
        cutoff: the loss at the edge, or the rise to it, in the unit of the loss.
        level: which of both: "absolute" or "rise".
        cap: the largest radius.
        tolerance: relative, of each radius.
        num_scans: at so many steps before each crossing an earlier one is looked for.
        first: the number of the first ray.
        start: a radius to begin with; some rays are sent ahead to find one if None.

    Raises:
        SettingsError: not even one ray is asked for, or a cutoff, cap or tolerance that is not above 0.
    """
    _must_make_sense(num_rays, cutoff, cap, tolerance)
    centre = objective.value()
    edge = cutoff_of(centre, cutoff, level)
    losses = RayLosses(objective, centre + STEEPEST * (edge - centre) if centre < edge else np.inf)
    found: list[Crossings] = []
    weights: list[Floats] = []
    with bar("rays", num_rays) as moving:
        for begin, count in _chunks(rays, num_rays, objective, ahead=_PILOTS if start is None else 0):
            drawn = rays.draw(first + begin, count)
            part = first_crossings(
                lambda chosen, steps, held=drawn.directions: losses.along(held, chosen, steps),  # type: ignore[misc]
                count,
                centre=centre,
                cutoff=edge,
                cap=cap,
                tolerance=tolerance,
                start=start,
                num_scans=num_scans,
                done=moving.update,
            )
            found.append(part)
            # From all pilots and them alone: how many rays are held at once is a matter of memory, and must not matter.
            if start is None and begin + count >= min(_PILOTS, num_rays):
                start = float(np.median(np.concatenate([each.radii for each in found]))) or None
            weights.append(drawn.log_weights)
    return BasinRadii(
        crossings=Crossings.joined(found),
        log_weights=np.concatenate(weights),
        num_coordinates=rays.frame.num_coordinates,
        centre=centre,
        cutoff=edge,
        cap=cap,
        rounding=torch.finfo(objective.dtype).eps * abs(centre),
    )


def _chunks(rays: Rays, num_rays: int, objective: Objective, ahead: int) -> Iterator[tuple[int, int]]:
    """The first ray and the number of rays of each part that is held in memory at once."""
    most = max(1, min(_MOST_BYTES, spare_bytes(objective.device) // _SHARE_OF_MEMORY) // max(1, rays.frame.num_bytes))
    begin = 0
    while begin < num_rays:
        count = min(most, num_rays - begin, ahead - begin if begin < ahead else num_rays)
        yield begin, count
        begin += count


def _must_make_sense(num_rays: int, cutoff: float, cap: float, tolerance: float) -> None:
    if num_rays < 1:
        raise SettingsError(f"at least one ray was required, num_rays={num_rays} came: raise it")
    for name, value in (("cutoff", cutoff), ("cap", cap), ("tolerance", tolerance)):
        if not 0 < value < np.inf:
            raise SettingsError(f"a finite {name} above 0 was required, {value} came: change it")
