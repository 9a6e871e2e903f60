"""What the measurements of basins share: the ground and its rays, the radii as values, notes and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import written
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Result, Solution, Source
from vallis.numerics.basin_comparison import near_cutoff_notes
from vallis.numerics.basin_radii import BasinRadii
from vallis.numerics.crossings import Floats
from vallis.numerics.directions import without_normalisation
from vallis.numerics.ray_losses import RayLosses
from vallis.numerics.rays import Frame, Rays
from vallis.numerics.surface import Budget, Surface, surface

Values = Mapping[str, Estimate | Array]
STEP = "step (1: the filters have moved by their norms)"
RAYS = {"sphere": "rays uniform on the sphere", "filters": "rays uniform filter by filter"}
_BINS = 30
_FAN_POINTS = 25

LI = Source(
    title="Visualizing the loss landscape of neural nets",
    authors="H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein",
    year=2018,
    url="https://arxiv.org/abs/1712.09913",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """A loss surface, and the relative coordinates around its centre."""

    surface: Surface
    frame: Frame


def must_make_sense(num_rays: int, num_scans: int, num_drawn: int) -> None:
    """Lets counts of rays pass.

    Raises:
        SettingsError: not even one ray is asked for, or a negative number of anything.
    """
    if num_rays < 1 or num_scans < 0 or num_drawn < 0:
        came = f"num_rays={num_rays}, num_scans={num_scans} and num_drawn={num_drawn}"
        raise SettingsError(f"at least one ray, and no negative count, was required, {came} came: raise them")


def ground_of(
    subject: Solution, split: str, max_examples: int | None, rng: Rng, budget: Budget | None = None
) -> Ground | NotApplicable:
    """The ground of a solution, or why there is none to measure.

    Raises:
        UnknownPart: there is no such split.
    """
    found = surface(subject, split, max_examples=max_examples, rng=rng, budget=budget)
    diverged = found.not_finite()
    if diverged is not None:
        return diverged
    objective = found.objective
    frame = Frame(without_normalisation(objective.module, objective.names, objective.origin))
    if not frame.num_coordinates:
        text = "No parameter is a weight with filters (or all are zero), so there is no direction to go."
        return NotApplicable(note=Note(code="no_direction", text=text))
    return Ground(surface=found, frame=frame)


def radius_values(found: BasinRadii, ground: Ground, which: str, *, is_fitted: bool = False) -> Values:
    """The radii along the rays, where they begin and end, and what they cost.

    Args:
        found: the radii.
        ground: where they were measured.
        which: the rays, in words.
        is_fitted: whether the rays are those of an ellipsoid that other pilots would have made another: then the
            scatter between rays is no error bar of their mean.
    """
    radii, unit, is_part = found.radii, ground.surface.unit, ground.surface.is_part
    centre = "mean loss of a part of the split" if is_part else "mean loss of the split, taken as given"
    count, num_examples = len(radii), len(ground.surface.objective.data)
    spread = float(radii.std(ddof=1) / np.sqrt(count)) if count > 1 and not is_fitted else None
    method = f"first crossings of the cutoff along {which}, each to the tolerance"

    def of_rays(value: float, stderr: float | None, how: str) -> Estimate:
        return Estimate(value=value, stderr=stderr, n=count, method=f"{how} of {method}")

    capped = float(found.is_capped.mean())
    # Rays that all agree are no proof that every other would.
    capped_error = float(np.sqrt(capped * (1 - capped) / count)) or None
    return {
        "mean_radius": of_rays(float(radii.mean()), spread, "mean"),
        "median_radius": of_rays(float(np.median(radii)), None, "median"),
        "max_radius": of_rays(float(radii.max()), None, "largest, which more rays make larger,"),
        "capped_fraction": of_rays(capped, None if is_fitted else capped_error, "share at the cap"),
        "radii": Array(data=radii, dims=("ray",)),
        "centre_loss": Estimate(
            value=found.centre, stderr=None if is_part else 0.0, n=num_examples, unit=unit, method=centre
        ),
        "cutoff_loss": Estimate(
            value=found.cutoff, stderr=0.0, unit=unit, method="the loss at the edge, as set: exact"
        ),
        "num_coordinates": Estimate(
            value=found.num_coordinates, stderr=0.0, method="counted: weights of filters that are not zero"
        ),
        "num_losses": Estimate(
            value=found.num_evaluations, stderr=None, unit="losses", method="counted; other rays may need others"
        ),
    }


def radius_notes(found: BasinRadii, num_scans: int) -> tuple[Note, ...]:
    """What has to be said of the radii."""
    if not found.is_inside:
        text = (
            f"The loss at the centre, {found.centre:.3g}, is not below the cutoff of {found.cutoff:.3g}, so the basin "
            'does not hold it and every radius is 0: raise the cutoff, or say level="rise".'
        )
        return (Note(code="above_cutoff", text=text),)
    notes = list(near_cutoff_notes(found.centre, found.cutoff))
    if found.is_rounded:
        text = (
            f"The rise of {found.cutoff - found.centre:.3g} to the cutoff is hardly more than the rounding of the loss "
            f"of {found.centre:.3g}, some {found.rounding:.2g}, so the radii tell of rounding, too: raise the cutoff, "
            "scale the targets, or give the network in float64."
        )
        notes.append(Note(code="lost_in_rounding", text=text))
    capped, earlier = int(found.is_capped.sum()), int(found.crossings.is_earlier.sum())
    if capped:
        text = (
            f"On {capped:,} of {len(found.radii):,} rays the loss stays below the cutoff up to the cap of "
            f"{found.cap:g}, which is their radius."
        )
        notes.append(Note(code="capped", text=text))
    if earlier:
        text = (
            f"On {earlier:,} of {len(found.radii):,} rays an earlier crossing was found by looking at {num_scans} "
            "steps before the first one met: the loss is no plain bowl there, and others may have been missed."
        )
        notes.append(Note(code="earlier_crossings", text=text))
    return tuple(notes)


def fan(ground: Ground, rays: Rays, found: BasinRadii, num_rays: int) -> tuple[dict[str, Array], tuple[Note, ...]]:
    """The losses along the first few rays, at steps around the radii; nothing where no ray has a radius."""
    known = found.radii[found.radii > 0]
    if not num_rays or not len(known):
        return {}, ()
    far = min(found.cap, 3 * float(known.max()))
    steps = np.geomspace(min(float(known.min()) / 3, far / 30), far, _FAN_POINTS)
    losses = RayLosses(ground.surface.objective)
    count = min(num_rays, len(found.radii))
    rows = [_along(losses, rays, place, steps) for place in track(range(count), "loss along rays", count)]
    data = np.stack(rows)
    held = Array(data=data, dims=("ray", "step"), unit=ground.surface.unit, coords={"step": steps})
    lost = int((~np.isfinite(data)).sum())
    text = f"At {lost} points along rays the loss is no finite number; they are kept as such and drawn as gaps."
    return {"losses": held}, (Note(code="not_finite", text=text),) if lost else ()


def fan_figure(result: Result) -> tuple[Figure, ...]:
    """The loss along rays, and the cutoff."""
    if "losses" not in result.values:
        return ()
    held, cutoff = result.array("losses"), result.estimate("cutoff_loss")
    steps = held.coords["step"]
    finite = np.where(np.isfinite(held.data), held.data, np.nan)
    known = np.isfinite(finite).any(0)
    low, middle, high = (np.full(len(steps), np.nan) for _ in range(3))
    low[known], middle[known], high[known] = np.nanquantile(finite[:, known], [0.0, 0.5, 1.0], axis=0)
    scale: Literal["linear", "log"] = "log" if np.nanmin(finite) > 0 else "linear"
    marks = (
        Mark(kind="band", x=steps, low=low, high=high, label=f"range over {len(finite)} rays"),
        Mark(kind="line", x=steps, y=middle, label="median over rays"),
        Mark(kind="line", x=steps[[0, -1]], y=np.full(2, cutoff.value), label=f"cutoff {cutoff.value:.3g}"),
    )
    figure = Figure(
        name="loss_along_rays",
        title="The loss along rays from the network",
        x=Axis(label=STEP, scale="log"),
        y=Axis(label=f"loss ({held.unit})", scale=scale),
        marks=marks,
        caption="A ray's radius is where its loss first reaches the cutoff.",
    )
    return (figure,)


def radius_figure(result: Result) -> tuple[Figure, ...]:
    """The distribution of the radii, with mean, median and the largest."""
    radii = result.array("radii").data
    known = radii[radii > 0]
    if not len(known):
        return ()
    edges = _edges(np.log(known))
    heights = np.histogram(np.log(known), edges)[0]
    marked = {name: result.estimate(f"{name}_radius").value for name in ("mean", "median", "max")}
    figure = Figure(
        name="radii",
        title="How far the basin reaches",
        x=Axis(label=f"radius: {STEP}", scale="log"),
        y=Axis(label="number of rays"),
        marks=(
            histogram(np.exp(edges), heights, f"{len(known):,} rays"),
            *(upright(value, heights, f"{name} {written(value, digits=3)}") for name, value in marked.items()),
        ),
        caption="The volume goes with a high power of the radius, so the few longest rays make it.",
    )
    return (figure,)


def histogram(edges: Floats, heights: Floats, label: str) -> Mark:
    """Bars as one outline, so that they keep their widths on a logarithmic axis."""
    high = np.repeat(heights.astype(np.float64), 2)
    return Mark(kind="band", x=np.repeat(edges, 2)[1:-1], low=np.zeros_like(high), high=high, label=label)


def upright(place: float, heights: Floats, label: str) -> Mark:
    """A line that marks a place in a histogram."""
    return Mark(kind="line", x=np.full(2, place), y=np.array([0.0, float(heights.max())]), label=label)


def _edges(values: Floats) -> Floats:
    """``(B + 1,)`` of a histogram; around a single value a bin of some width."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.05, high + 0.05
    count = min(_BINS, max(1, round(2 * np.sqrt(len(values)))))
    found = np.linspace(low, high, count + 1)
    found[[0, -1]] = np.minimum(found[0], values.min()), np.maximum(found[-1], values.max())
    return found


def terms_histogram(values: Floats, label: str) -> tuple[Mark, Floats]:
    """A histogram of numbers on a linear axis, and its heights."""
    edges = _edges(values)
    heights = np.histogram(values, edges)[0].astype(np.float64)
    return histogram(edges, heights, label), heights


def _along(losses: RayLosses, rays: Rays, place: int, steps: Floats) -> Floats:
    return losses.along(rays.draw(place, 1).directions, np.zeros(len(steps), dtype=np.int64), steps)
