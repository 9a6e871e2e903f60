"""What kind of point a network stands at: a strict minimum, a degenerate one, a saddle, or no stationary point.

A certificate of second order: the gradient, both ends of the Hessian's spectrum with their residuals, and what the loss
does along random directions and along the one of the most negative curvature. A minimum that is not strict cannot be
told from a saddle of higher order by this; the probes say how far it was looked.

Source: Sun et al. (2020), section II (kinds of stationary points).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.paths import Floats
from vallis.numerics.slices import line

Kind = Literal["not_stationary", "saddle", "degenerate_minimum", "strict_minimum"]
KINDS: tuple[Kind, ...] = ("not_stationary", "saddle", "degenerate_minimum", "strict_minimum")


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known of a point.

    Attributes:
        kind: the verdict, at the tolerances that were given.
        gradient_norm: Euclidean.
        smallest: the smallest eigenvalue of the Hessian that was found.
        largest: the largest.
        residual: of the smallest: an eigenvalue lies within it.
        converged: whether both have.
        radii: ``(R,)`` distances of the probes.
        lowest_changes: ``(R,)`` the lowest change of the loss over random directions at each distance.
        downhill: ``(R,)`` the lower change of the two ways along the eigenvector of the smallest eigenvalue.
    """

    kind: Kind
    gradient_norm: float
    smallest: float
    largest: float
    residual: float
    converged: bool
    radii: Floats
    lowest_changes: Floats
    downhill: Floats


def certify(
    objective: Objective,
    *,
    rng: Rng,
    gradient_tolerance: float = 1e-4,
    curvature_tolerance: float = 1e-6,
    radii: Sequence[float] = (1e-4, 1e-3, 1e-2),
    num_directions: int = 100,
    max_products: int = 400,
) -> Certificate:
    """The certificate of an objective's origin.

    Args:
        objective: the loss surface; in float64 where small curvatures matter.
        rng: chooses directions and start vectors.
        gradient_tolerance: the point is stationary when the norm of the gradient is at most this.
        curvature_tolerance: curvature counts as zero within this share of the largest magnitude.
        radii: distances of the probes.
        num_directions: random ones, of length one.
        max_products: with the Hessian.
    """
    must_be_rng(rng)
    gradient = float(objective.gradient().norm())
    hessian = Hessian(objective)
    found = eigenpairs(
        hessian, largest=1, smallest=1, rng=rng.child("eigenpairs"), tolerance=1e-4, max_products=max_products
    )
    hessian.clear()
    smallest, largest = float(found.smallest.values[0]), float(found.largest.values[0])
    zero = curvature_tolerance * max(abs(smallest), abs(largest))
    if gradient > gradient_tolerance:
        kind: Kind = "not_stationary"
    elif smallest < -zero:
        kind = "saddle"
    else:
        kind = "strict_minimum" if smallest > zero else "degenerate_minimum"
    steps = np.array([float(radius) for radius in radii])
    base = objective.value()
    return Certificate(
        kind=kind,
        gradient_norm=gradient,
        smallest=smallest,
        largest=largest,
        residual=float(found.smallest.residuals[0]),
        converged=found.converged,
        radii=steps,
        lowest_changes=_lowest(objective, steps, num_directions, rng.child("directions")) - base,
        downhill=_both_ways(objective, found.smallest.vectors[:, 0], steps) - base,
    )


def _lowest(objective: Objective, radii: Floats, count: int, rng: Rng) -> Floats:
    """``(R,)`` the lowest loss over random directions at each radius."""
    lowest = np.full(len(radii), np.inf)
    for place in range(count):
        drawn = torch.randn(objective.num_parameters, generator=rng.child(place).torch(), dtype=torch.float64)
        direction = objective.point((drawn / drawn.norm()).to(objective.origin[0]))
        lowest = np.minimum(lowest, line(objective, direction, radii))
    return lowest


def _both_ways(objective: Objective, vector: torch.Tensor, radii: Floats) -> Floats:
    direction = objective.point((vector / vector.norm()).to(objective.origin[0]))
    return np.minimum(line(objective, direction, radii), line(objective, direction, -radii))
