"""An ellipsoid that is like a basin, so that rays drawn from it end at its edge after about the same steps.

The log-volume of a star-shaped body is at least the mean of what its rays say (see `vallis.numerics.log_volume`), from
whatever ellipsoid they are drawn, and the more alike the rays are, the closer. So that bound says which of several
ellipsoids is best. Curvature at the centre alone would not do: where all examples are fitted it vanishes, and says
little of where the loss begins to rise. It is averaged over points at the edge of the basin, which some rays have
found; rays of the ellipsoid that came of it find others.

None of these rays is used again, so that what is estimated with the ellipsoid has no bias from its choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vallis.core.errors import LossError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.basin_radii import BasinRadii, Level, basin_radii
from vallis.numerics.ellipsoids import Block, LayerEllipsoid, Structure, blocks_at
from vallis.numerics.rays import Frame, Rays

# Dampings differ by this factor; the first is this share of the mean curvature.
_STEP, _FIRST = 0.1, 0.01
_FARTHEST = 7
# Which of two ellipsoids is better can be told from rough radii.
_TOLERANCE = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class BasinEllipsoid:
    """What was found.

    Attributes:
        ellipsoid: the best; None where the sphere itself was.
        lower_bound: of the log-volume relative to that of the unit ball, from the few rays that chose it.
        num_evaluations: how often the loss was computed.
        num_curvatures: at how many points the curvature was.
        trouble: why there is no curvature, if so.
    """

    ellipsoid: LayerEllipsoid | None
    lower_bound: float
    num_evaluations: int
    num_curvatures: int = 0
    trouble: str = ""


def basin_ellipsoid(
    objective: Objective,
    frame: Frame,
    *,
    rng: Rng,
    cutoff: float = 0.1,
    level: Level = "absolute",
    cap: float = 1.0,
    structure: Structure = "kronecker",
    num_pilots: int = 8,
    num_rounds: int = 2,
) -> BasinEllipsoid:
    """Looks for an ellipsoid that is like the basin around the origin of an objective.

    Args:
        objective: the loss surface.
        frame: the relative coordinates around its origin.
        rng: the pilot rays.
        cutoff: see `vallis.numerics.basin_radii.basin_radii`.
        level: as there.
        cap: as there.
        structure: "kronecker" lets layers have axes of their own, "diagonal" does not.
        num_pilots: rays that each ellipsoid is tried on, and points at the edge where the curvature is averaged.
        num_rounds: how often the curvature is computed anew, at the edge that the last ellipsoid found.

    Raises:
        SettingsError: as in `basin_radii`.
    """
    pilots = _Pilots(
        objective, frame, rng, num_pilots, {"cutoff": cutoff, "level": level, "cap": cap, "tolerance": _TOLERANCE}
    )
    best, radii = pilots.bound(None), pilots.radii
    chosen: LayerEllipsoid | None = None
    num_curvatures = 0
    for place in range(num_rounds if radii.is_inside else 0):
        try:
            blocks = blocks_at(pilots.edge(chosen, radii), frame, rng.child("curvature", place), structure)
        except LossError as error:
            return BasinEllipsoid(
                ellipsoid=chosen, lower_bound=best, num_evaluations=pilots.num_evaluations, trouble=str(error)
            )
        num_curvatures += num_pilots
        bound, found, found_radii = pilots.best(blocks)
        if bound <= best:
            break
        best, chosen, radii = bound, found, found_radii
    return BasinEllipsoid(
        ellipsoid=chosen, lower_bound=best, num_evaluations=pilots.num_evaluations, num_curvatures=num_curvatures
    )


class _Pilots:
    """Some rays, the same noise for every ellipsoid, so that differences between ellipsoids are none of the rays."""

    def __init__(
        self, objective: Objective, frame: Frame, rng: Rng, num_rays: int, settings: Mapping[str, Any]
    ) -> None:
        self.objective, self.frame, self.rng, self.num_rays = objective, frame, rng.child("pilots"), num_rays
        self.settings, self.num_evaluations = settings, 0
        self.radii: BasinRadii
        self.start: float | None = None

    def bound(self, ellipsoid: LayerEllipsoid | None) -> float:
        """The lower bound of the log-volume that rays of this ellipsoid give, without the unit ball's."""
        rays = Rays(self.frame, self.rng, "sphere", ellipsoid)
        self.radii = basin_radii(self.objective, rays, self.num_rays, start=self.start, **self.settings)
        self.start = float(np.median(self.radii.radii)) or None
        self.num_evaluations += self.radii.num_evaluations
        terms = self.frame.num_coordinates * self.radii.log_radii + self.radii.log_weights
        return float(terms.mean())

    def best(self, blocks: Sequence[Block | None]) -> tuple[float, LayerEllipsoid, BasinRadii]:
        """The best damping: from the first one on, in the direction in which the bound rises, until it falls."""
        found = {}

        def tried(power: int) -> float:
            if power not in found:
                ellipsoid = LayerEllipsoid(blocks, _FIRST * _STEP**power)
                found[power] = (self.bound(ellipsoid), ellipsoid, self.radii)
            return found[power][0]

        way = 1 if tried(1) > tried(0) else -1
        power = max(0, way)
        while abs(power) < _FARTHEST and tried(power + way) > tried(power):
            power += way
        return found[power]

    def edge(self, ellipsoid: LayerEllipsoid | None, radii: BasinRadii) -> list[Objective]:
        """The loss surface around the points where the pilot rays of an ellipsoid meet the edge."""
        drawn = Rays(self.frame, self.rng, "sphere", ellipsoid).draw(0, self.num_rays)
        return [
            self.objective.at(
                [
                    value if part is None else value + math.exp(radius) * part[place]
                    for value, part in zip(self.objective.origin, drawn.directions, strict=True)
                ]
            )
            for place, radius in enumerate(radii.log_radii.tolist())
        ]
