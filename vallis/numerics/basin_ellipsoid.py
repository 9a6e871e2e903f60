"""An ellipsoid that is like a basin, so that rays drawn from it end at its edge after about the same steps.

The log-volume of a star-shaped body is at least the mean of what its rays say (see `vallis.numerics.log_volume`), from
whatever ellipsoid they are drawn, and the more alike the rays are, the closer. So that bound says which of several
ellipsoids is best. Curvature at the centre alone would not do: where all examples are fitted it vanishes, and says
little of where the loss begins to rise. It is averaged over points at the edge of the basin, which some rays have
found; rays of the ellipsoid that came of it find others.

None of these rays is used again, so that what is estimated with the ellipsoid has no bias from its choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vallis.core.errors import LossError, ModelError
from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.basin_radii import BasinRadii, Level, basin_radii
from vallis.numerics.ellipsoids import Block, LayerEllipsoid, Structure, blocks_at
from vallis.numerics.rays import Frame, Rays

# Dampings differ by this factor; the first is this share of the mean curvature.
_STEP, _FIRST = 0.1, 0.01
_FARTHEST = 7
_PATIENCE = 2
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
    must_be_rng(rng)
    settings = {"cutoff": cutoff, "level": level, "cap": cap, "tolerance": _TOLERANCE}
    pilots = _Pilots(objective, frame, rng, num_pilots, settings)
    best, is_inside = pilots.bound(None), pilots.is_inside
    chosen: LayerEllipsoid | None = None
    num_curvatures, trouble = 0, ""
    for place in range(num_rounds if is_inside else 0):
        try:
            blocks = blocks_at(pilots.edge(chosen, place), frame, rng.child("curvature", place), structure)
        except (LossError, ModelError) as error:
            trouble = str(error)
            break
        num_curvatures += num_pilots
        bound, found = pilots.best(blocks)
        if bound <= best:
            break
        best, chosen = bound, found
    return BasinEllipsoid(
        ellipsoid=chosen,
        lower_bound=best,
        num_evaluations=pilots.num_evaluations,
        num_curvatures=num_curvatures,
        trouble=trouble,
    )


class _Pilots:
    """Rays that try ellipsoids, and others that find their edges.

    All ellipsoids are tried on the same noise, so that differences between them are none of the rays. It must not be
    the noise of the edges: an ellipsoid is narrow just where the points lie that it was made of.
    """

    def __init__(
        self, objective: Objective, frame: Frame, rng: Rng, num_rays: int, settings: Mapping[str, Any]
    ) -> None:
        self.objective, self.frame, self.rng, self.num_rays = objective, frame, rng, num_rays
        self.settings, self.num_evaluations = settings, 0
        self.start: float | None = None
        self.is_inside = False

    def bound(self, ellipsoid: LayerEllipsoid | None) -> float:
        """The lower bound of the log-volume that rays of this ellipsoid give, without the unit ball's."""
        found = self._radii(Rays(self.frame, self.rng.child("trials"), "sphere", ellipsoid))
        self.is_inside = found.is_inside
        return float((self.frame.num_coordinates * found.log_radii + found.log_weights).mean())

    def best(self, blocks: Sequence[Block | None]) -> tuple[float, LayerEllipsoid]:
        """The best damping: from the first one on, in the direction in which the bound rises, until it only falls."""
        found: dict[int, tuple[float, LayerEllipsoid]] = {}

        def tried(power: int) -> float:
            if power not in found:
                ellipsoid = LayerEllipsoid(blocks, _FIRST * _STEP**power)
                found[power] = (self.bound(ellipsoid), ellipsoid)
            return found[power][0]

        way = 1 if tried(1) > tried(0) else -1
        power = best = max(0, way)
        while abs(power) < _FARTHEST and abs(power - best) < _PATIENCE:
            power += way
            best = max(power, best, key=tried)
        return found[best]

    def edge(self, ellipsoid: LayerEllipsoid | None, place: int) -> list[Objective]:
        """The loss surface around points where rays of an ellipsoid meet the edge, other rays for every place."""
        rays = Rays(self.frame, self.rng.child("edge", place), "sphere", ellipsoid)
        radii = self._radii(rays).radii.tolist()
        directions = rays.draw(0, self.num_rays).directions
        return [
            self.objective.at(
                [
                    value if part is None else value + radius * part[ray]
                    for value, part in zip(self.objective.origin, directions, strict=True)
                ]
            )
            for ray, radius in enumerate(radii)
        ]

    def _radii(self, rays: Rays) -> BasinRadii:
        found = basin_radii(self.objective, rays, self.num_rays, start=self.start, **self.settings)
        self.start = float(np.median(found.radii)) or None
        self.num_evaluations += found.num_evaluations
        return found
