"""Two basins on one level: cutoffs that mean the same for both, and the ratio of their volumes.

A radius measures the way from the loss of the centre up to the cutoff. Of two centres with different losses the higher
one has less of a way, and its basin is smaller for that alone. So either both lie far below one absolute cutoff, or
both rise by the same amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vallis.core.errors import UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Note
from vallis.numerics.basin_radii import BasinRadii, Level, basin_radii, cutoff_of
from vallis.numerics.directions import without_normalisation
from vallis.numerics.log_volume import LogRatio, log_volume_ratio
from vallis.numerics.rays import Frame, Rays, Shape

# A centre above this share of the cutoff is near it.
NEAR = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class BasinComparison:
    """Two basins, along the same rays.

    Attributes:
        one: the radii of the first.
        other: those of the second.
        ratio: of their volumes in relative coordinates.
        notes: what keeps them from being comparable, if anything.
    """

    one: BasinRadii
    other: BasinRadii
    ratio: LogRatio
    notes: tuple[Note, ...]


def matched_cutoffs(
    centres: Sequence[float], cutoff: float = 0.1, level: Level = "absolute"
) -> tuple[tuple[float, ...], tuple[Note, ...]]:
    """The cutoffs that put several solutions on one level, and what speaks against comparing them there.

    Args:
        centres: the losses of the solutions.
        cutoff: the loss at the edge, or the rise to it.
        level: which of both: "absolute" is one loss for all, "rise" the same rise for each.

    Raises:
        SettingsError: the level is none of the two.
        UsageError: no loss came, or one that is not below its cutoff.
    """
    cutoffs = tuple(cutoff_of(centre, cutoff, level) for centre in centres)
    if not cutoffs or not all(centre < edge for centre, edge in zip(centres, cutoffs, strict=True)):
        came = ", ".join(f"{centre:.3g}" for centre in centres)
        raise UsageError(
            f'losses below the cutoff {cutoff:g} were required, {came or "none"} came: raise it, or say level="rise"'
        )
    if level == "absolute":
        return cutoffs, near_cutoff_notes(max(centres), cutoff)
    highest, lowest = max(centres), min(centres)
    if highest - lowest <= NEAR * cutoff:
        return cutoffs, ()
    text = (
        f"The basins begin at losses of {lowest:.3g} to {highest:.3g}, farther apart than the rise of {cutoff:g} that "
        "bounds them: they are of one depth, at different heights."
    )
    return cutoffs, (Note(code="different_heights", text=text),)


def near_cutoff_notes(centre: float, cutoff: float) -> tuple[Note, ...]:
    """Says when a centre below a cutoff is so near to it that its radii measure that, too."""
    if not NEAR * cutoff < centre < cutoff:
        return ()
    text = (
        f"The loss at the centre, {centre:.3g}, is not far below the cutoff of {cutoff:.3g}, so the radii tell "
        "how much is left to it as much as how wide the basin is: train longer, raise the cutoff, or use a rise."
    )
    return (Note(code="near_cutoff", text=text),)


def compare_basins(
    one: Objective,
    other: Objective,
    *,
    rng: Rng,
    num_rays: int = 1000,
    cutoff: float = 0.1,
    level: Level = "absolute",
    shape: Shape = "sphere",
    cap: float = 1.0,
    tolerance: float = 0.01,
) -> BasinComparison:
    """How much larger the basin of one network is than that of another of the same architecture, on one level.

    Both see the same noise, in units of their own filters.

    Args:
        one: the loss surface around the first solution.
        other: that around the second.
        rng: the rays.
        num_rays: K.
        cutoff: see `basin_radii`.
        level: as there.
        shape: see `vallis.numerics.rays`.
        cap: as in `basin_radii`.
        tolerance: as there.

    Raises:
        UsageError: the networks do not move in the same dimensions, or a loss is not below its cutoff.
        SettingsError: as in `basin_radii`.
    """
    must_be_rng(rng)
    frames = [Frame(without_normalisation(each.module, each.names, each.origin)) for each in (one, other)]
    if frames[0].num_coordinates != frames[1].num_coordinates or frames[0].shapes != frames[1].shapes:
        raise UsageError(
            f"networks with the same weights that move were required, {frames[0].num_coordinates} and "
            f"{frames[1].num_coordinates} came: volumes of different dimensions cannot be compared"
        )
    _, notes = matched_cutoffs([one.value(), other.value()], cutoff, level)
    found = [
        basin_radii(
            objective,
            Rays(frame, rng.child("directions"), shape),
            num_rays,
            cutoff=cutoff,
            level=level,
            cap=cap,
            tolerance=tolerance,
        )
        for objective, frame in zip((one, other), frames, strict=True)
    ]
    ratio = log_volume_ratio(
        found[0].log_radii, found[1].log_radii, frames[0].num_coordinates, rng=rng.child("resampling")
    )
    return BasinComparison(one=found[0], other=found[1], ratio=ratio, notes=notes)
