"""The numbers of `mode_connectivity`: of each way its barriers, its profile, its length; the plane through the ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vallis.core.errors import UsageError
from vallis.core.types import Array, Estimate
from vallis.numerics.path_profile import Barrier, Profile
from vallis.numerics.paths import Floats, Path
from vallis.numerics.planes import box_around, plane_through
from vallis.numerics.routes import Ends

SPLITS = ("train", "test")
_PATH_POINTS = 41


@dataclass(frozen=True, eq=False)
class Found:
    """A way that was walked.

    Attributes:
        route: its name.
        ends: what it joins.
        path: the way.
        profiles: what was seen on the train split, and on the test split where there is one.
        barriers: of each profile those in its "losses" and "wrong" answers.
        pivots: points between the ends that were fitted; 0 of a segment.
    """

    route: str
    ends: Ends
    path: Path
    profiles: Sequence[Profile]
    barriers: Sequence[Mapping[str, Barrier]]
    pivots: int


def values_of(found: Sequence[Found], ends: Ends, unit: str) -> dict[str, Estimate | Array]:
    """All values but the plane."""
    start, end = ends.vectors
    values: dict[str, Estimate | Array] = {
        "distance": Estimate(value=float((end - start).norm()), stderr=0.0, unit="weight", method="exact, Euclidean")
    }
    for each in found:
        values |= _of_way(each, unit)
    for name, what in (("barrier", "losses"), ("error_barrier", "wrong")):
        rows = [[each.barriers[0][what].interval for each in found]]
        if np.isfinite(rows).all():
            coords = {"route": np.array([each.route for each in found])}
            interval = Array(data=np.array(rows[0]), dims=("route", "end"), unit=unit if what == "losses" else "1",
                             coords=coords)  # fmt: skip
            values[f"{name}_intervals"] = interval
    return values


def _of_way(found: Found, unit: str) -> dict[str, Estimate | Array]:
    route, moments = found.route, found.profiles[0].moments
    values: dict[str, Estimate | Array] = {}
    for split, profile, barriers in zip(SPLITS, found.profiles, found.barriers, strict=False):
        key = route if split == "train" else f"{route}_test"
        values[f"{key}_barrier"] = _estimate(barriers["losses"], profile, "losses", unit)
        values[f"{key}_losses"] = _array(moments, profile.losses, unit)
        if np.isfinite(profile.errors).all():
            values[f"{key}_error_barrier"] = _estimate(barriers["wrong"], profile, "wrong", "1")
            values[f"{key}_errors"] = _array(moments, profile.errors, "1")
    num = len(moments)
    method = f"trapezoids over {num} points"
    values[f"{route}_mean_loss"] = Estimate(value=found.profiles[0].integral(), n=num, unit=unit, method=method)
    highest = Estimate(value=float(found.profiles[0].losses.max()), n=num, unit=unit, method=f"over {num} points")
    values[f"{route}_highest_loss"] = highest
    straight = float((found.ends.vectors[1] - found.ends.vectors[0]).norm())
    ratio = found.path.length() / straight if straight else 1.0
    values[f"{route}_length"] = Estimate(value=ratio, unit="1", method="length over that of the segment, by a polygon")
    return values


def _estimate(barrier: Barrier, profile: Profile, what: str, unit: str) -> Estimate:
    held = profile.of_examples(what)
    n = 1 if held is None else max(1, held[0].shape[1])
    method = f"highest of {len(profile.moments)} points, at t = {barrier.moment:.4g}"
    if barrier.stderr is not None:
        method += "; the error bar is over the choice of examples, by resampling them"
    return Estimate(value=barrier.height, stderr=barrier.stderr, n=n, unit=unit, method=method)


def _array(moments: Floats, data: Floats, unit: str) -> Array:
    return Array(data=data, dims=("moment",), unit=unit, coords={"moment": moments})


def plane_values(found: Found, num_points: int, unit: str) -> dict[str, Estimate | Array]:
    """The loss on the plane through the ends of a way and its middle; nothing where the way is straight."""
    vector = found.path.controls[0].clone()
    corners = [found.path.write(t, vector.clone()) for t in (0.0, 1.0, 0.5)]
    try:
        plane = plane_through(corners)
    except UsageError:
        return {}
    moments = np.linspace(0, 1, _PATH_POINTS)
    way = np.concatenate([plane.coordinates(found.path.write(float(t), vector)[None]) for t in moments])
    low_x, high_x, low_y, high_y = box_around(way, margin=0.25)
    x, y = np.linspace(low_x, high_x, num_points), np.linspace(low_y, high_y, num_points)
    losses = np.array([[found.ends.loss(plane.at(float(a), float(b), vector)) for a in x] for b in y])
    return {
        "plane_losses": Array(data=losses, dims=("across", "along"), unit=unit, coords={"across": y, "along": x}),
        "plane_path": Array(data=way, dims=("moment", "axis"), unit="weight", coords={"moment": moments}),
    }
