"""How much room the basin around a network has: its log-volume, and how far that number can be trusted.

Definition: V = omega_n E[w r^n], with omega_n the volume of the unit ball in n dimensions, r the radius along a random
    direction (see `basin_radius`, whose unit of length this has), and w the weight of the direction: of the part of
    {L < cutoff} within the cap that the centre sees. Directions are those of an ellipsoid that was fitted to the basin
    with other rays, w being exactly how much rarer they are than among uniform ones; or uniform, with w = 1. n counts
    the weights of filters, or all P parameters. typical_log_volume is log omega_n + E[log(w r^n)], a lower bound.
    log10_ball_share is log10(V / omega_n): of the ball of radius 1, how many powers of ten.
Unit: nats for logarithms of volumes, save log10_ball_share; 1, norms of the filters, for radii.
Source: Huang et al. (2020), section 4; Scherlis and Belrose (2025), section 3 (directions by curvature).
Cost: a pass forward, a third of a gradient, for each loss: some 2 to 6 a ray and 25 for each drawn ray; with an
    ellipsoid some 50 losses a pilot besides, and for each pilot and round a gradient for every class.
Says little when: n is large. The mean of r^n is then made by the longest few rays, and the true volume is larger than
    any number of rays can show: effective_sample_size says how many share it, and below some 30 neither error bar nor
    interval means anything. Differences between networks remain, of typical_log_volume above all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity, written
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Source
from vallis.measurements._sources import HUANG
from vallis.measurements.landscape import _basin
from vallis.numerics.basin_ellipsoid import BasinEllipsoid, basin_ellipsoid
from vallis.numerics.basin_radii import BasinRadii, Level, basin_radii
from vallis.numerics.log_volume import FEWEST_EFFECTIVE, LogVolume, log_ball_volume, log_mean_exp, log_volume
from vallis.numerics.rays import Rays, Shape

Proposal = Literal["kronecker", "diagonal", "none"]
Dimensions = Literal["moved", "all"]
_RUNNING_POINTS = 40


@dataclass(frozen=True, kw_only=True)
class BasinVolume:
    """The log-volume of the basin around a network, in units of its filters.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        cutoff: the loss at the edge, or the rise to it, in the unit of the loss.
        level: which of both: "absolute" or "rise".
        proposal: what directions are drawn from: an ellipsoid with axes from Kronecker factors of the curvature
            ("kronecker") or without any mixing of weights ("diagonal"); "none" draws them uniformly, as in the paper.
        rays: what uniform directions are uniform on: "sphere" or, with no proposal, "filters"; only the former have a
            volume, the latter a number of the same formula.
        dimensions: n: "moved" counts the weights of filters; with no proposal, "all" counts every parameter.
        num_rays: how many.
        cap: the largest radius.
        tolerance: relative, of each radius.
        num_scans: at so many steps before each crossing an earlier one is looked for.
        num_pilots: rays that each candidate ellipsoid is tried on.
        num_rounds: how often the curvature is computed anew, at the edge that the last ellipsoid found.
        num_drawn: along so many rays the loss is drawn.
        seed: chooses the directions. Networks with the same parameters get the same noise.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "full": {"max_examples": 10_000, "level": "rise", "num_rays": 200},
    }
    sources: ClassVar[tuple[Source, ...]] = (
        HUANG,
        Source(
            title="Estimating the probability of sampling a trained neural network at random",
            authors="A. Scherlis, N. Belrose",
            year=2025,
            url="https://arxiv.org/abs/2501.18812",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    cutoff: float = 0.1
    level: Level = "absolute"
    proposal: Proposal = "kronecker"
    rays: Shape = "sphere"
    dimensions: Dimensions = "moved"
    num_rays: int = 1000
    cap: float = 1.0
    tolerance: float = 0.01
    num_scans: int = 0
    num_pilots: int = 8
    num_rounds: int = 2
    num_drawn: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        _basin.must_make_sense(self.num_rays, self.num_scans, self.num_drawn)
        if not (self.cutoff > 0 and self.cap > 0 and self.tolerance > 0 and self.num_pilots >= 1):
            came = f"{self.cutoff}, {self.cap}, {self.tolerance} and {self.num_pilots}"
            raise SettingsError(f"cutoff, cap, tolerance and num_pilots above 0 were required, {came} came: raise them")
        if self.proposal != "none" and (self.rays != "sphere" or self.dimensions != "moved"):
            came = f"rays={self.rays!r} and dimensions={self.dimensions!r}"
            raise SettingsError(
                f'rays="sphere" and dimensions="moved" were required with a proposal, {came} came: say proposal="none"'
            )

    @classmethod
    def tiny(cls) -> BasinVolume:
        """The cheapest settings, for tests."""
        return cls(level="rise", num_rays=6, num_drawn=1, num_pilots=2, num_rounds=1)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = _basin.ground_of(subject, self.split, self.max_examples, rng)
        if isinstance(ground, NotApplicable):
            return ground
        stream = rng.child("directions", self.seed)
        fitted = self._fitted(ground, stream)
        rays = Rays(ground.frame, stream, self.rays, None if fitted is None else fitted.ellipsoid)
        objective = ground.surface.objective
        found = basin_radii(objective, rays, self.num_rays, num_scans=self.num_scans, **self._edge())
        if not found.is_inside:
            return NotApplicable(note=_basin.radius_notes(found, 0)[0])
        n = found.num_coordinates if self.dimensions == "moved" else objective.num_parameters
        volume = log_volume(found.log_radii, n, rng=rng.child("resampling"), log_weights=found.log_weights)
        drawn, gaps = _basin.fan(ground, rays, found, self.num_drawn)
        is_fitted = rays.ellipsoid is not None
        which = "rays of the fitted ellipsoid" if is_fitted else _basin.RAYS[self.rays]
        values = {
            **_volume_values(found, volume, n, is_fitted=is_fitted),
            **_basin.radius_values(found, ground, which, is_fitted=is_fitted),
            **drawn,
            **_fitting_values(fitted),
        }
        notes = (*_notes(volume, found, fitted, self.num_scans), *_basin.radius_notes(found, self.num_scans), *gaps)
        return Result(values=values, notes=(*ground.surface.notes, *notes))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        terms = result.array("ray_log_volumes").data
        return (*_single_rays(result, terms), _running(result, terms), *_basin.radius_figure(result),
                *_basin.fan_figure(result))  # fmt: skip

    def reading(self, result: Result) -> str:
        value, typical = result.estimate("log_volume"), result.estimate("typical_log_volume")
        share, size = result.estimate("log10_ball_share"), result.estimate("effective_sample_size").value
        n, edge = int(result.estimate("num_dimensions").value), quantity(result.estimate("cutoff_loss"))
        text = (
            f"In {n:,} dimensions, with filters as units of length, the basin below {edge} has a log-volume of "
            f"{quantity(value, 6)}, 10 to the {written(share.value, digits=5)} of the unit ball"
        )
        if value.stderr is not None:
            return f"{text}; {written(size, digits=3)} of {value.n:,} rays share it."
        few = "one ray holds" if round(size) <= 1 else f"{round(size)} rays hold"
        return (
            f"{text}. Of {value.n:,} rays {few} nearly all of it, so it is no more than the most that was seen, "
            f"without an error bar; the rays on average bound it from below by {quantity(typical, 6)}."
        )

    def _edge(self) -> dict[str, Any]:
        return {"cutoff": self.cutoff, "level": self.level, "cap": self.cap, "tolerance": self.tolerance}

    def _fitted(self, ground: _basin.Ground, rng: Rng) -> BasinEllipsoid | None:
        if self.proposal == "none":
            return None
        return basin_ellipsoid(
            ground.surface.objective,
            ground.frame,
            rng=rng.child("fit"),
            cutoff=self.cutoff,
            level=self.level,
            cap=self.cap,
            structure=self.proposal,
            num_pilots=self.num_pilots,
            num_rounds=self.num_rounds,
        )


def _volume_values(found: BasinRadii, volume: LogVolume, n: int, *, is_fitted: bool) -> dict[str, Estimate | Array]:
    method = "mean of w r^n over rays, in logarithms; of what the centre sees within the cap"
    typical = "mean of log(w r^n) over rays: a lower bound"
    if is_fitted:
        typical += "; another fit of the ellipsoid has another"
    terms = log_ball_volume(n) + n * found.log_radii + found.log_weights
    low, high = volume.interval
    interval = f"{volume.level:.0%} bootstrap interval over rays"

    def of_rays(value: float, stderr: float | None, method: str, unit: str = "nats") -> Estimate:
        return Estimate(value=value, stderr=stderr, n=volume.num_rays, unit=unit, method=method)

    share_error = None if volume.stderr is None else volume.stderr / float(np.log(10))
    return {
        "log_volume": of_rays(volume.value, volume.stderr, method),
        "log_volume_low": of_rays(low, None, f"lower end of the {interval}"),
        "log_volume_high": of_rays(high, None, f"upper end of the {interval}"),
        "typical_log_volume": of_rays(volume.typical, None if is_fitted else volume.typical_stderr, typical),
        "log10_ball_share": of_rays(
            (volume.value - log_ball_volume(n)) / float(np.log(10)), share_error, f"log10 of the {method}", "1"
        ),
        "effective_sample_size": of_rays(volume.effective_sample_size, None, "(sum x)^2 / sum x^2 of x = w r^n", "1"),
        "ray_spread": of_rays(volume.spread or 0.0, None, "standard deviation of log(w r^n) over rays"),
        "num_dimensions": Estimate(value=n, stderr=0.0, method="counted"),
        "ray_log_volumes": Array(data=terms, dims=("ray",), unit="nats"),
    }


def _fitting_values(fitted: BasinEllipsoid | None) -> dict[str, Estimate | Array]:
    if fitted is None:
        return {}
    method = "counted, in the search for the ellipsoid"
    return {"num_fitting_losses": Estimate(value=fitted.num_evaluations, stderr=None, unit="losses", method=method)}


def _notes(volume: LogVolume, found: BasinRadii, fitted: BasinEllipsoid | None, num_scans: int) -> tuple[Note, ...]:
    notes = []
    if found.is_capped.mean() > 0.5:
        text = (
            "Most of the volume that was seen ends at the cap and not where the loss reaches the cutoff: it tells as "
            "much of the cap as of the basin, and networks differ less than with a larger cap."
        )
        notes.append(Note(code="bound_by_the_cap", text=text))
    if not num_scans:
        text = (
            "Only what lies on a ray before the first crossing that was met counts, as if the basin were star-shaped; "
            "no earlier ones were looked for (num_scans does)."
        )
        notes.append(Note(code="first_crossings", text=text))
    if not volume.is_resolved:
        text = (
            f"Effectively {volume.effective_sample_size:.2g} of {volume.num_rays:,} rays make the log-volume, where "
            f"{FEWEST_EFFECTIVE:g} would be needed for an error bar: it is a maximum over rays, its interval means "
            "nothing, and the true volume is larger."
        )
        notes.append(Note(code="few_effective_rays", text=text))
    if fitted is not None and fitted.trouble:
        text = f"Directions could not be fitted to the basin by curvature, because {_as_clause(fitted.trouble)}."
        notes.append(Note(code="no_curvature", text=text))
    elif fitted is not None and fitted.ellipsoid is None:
        text = "No ellipsoid was better than the sphere on the pilot rays, so directions are uniform."
        notes.append(Note(code="no_better_ellipsoid", text=text))
    return tuple(notes)


def _as_clause(sentence: str) -> str:
    return sentence.strip().rstrip(".")


def _single_rays(result: Result, terms: Any) -> tuple[Figure, ...]:
    value, typical = result.estimate("log_volume"), result.estimate("typical_log_volume")
    size = result.estimate("effective_sample_size").value
    bars, heights = _basin.terms_histogram(terms, f"{len(terms):,} rays")
    figure = Figure(
        name="log_volume_by_ray",
        title="What single rays say of the log-volume",
        x=Axis(label="log-volume (nats)"),
        y=Axis(label="number of rays"),
        marks=(
            bars,
            _basin.upright(value.value, heights, f"log-volume {written(value.value, value.stderr, 6)}"),
            _basin.upright(typical.value, heights, f"lower bound (mean) {written(typical.value, digits=6)}"),
        ),
        caption=f"Effective sample size {size:.3g} of {len(terms):,} rays; bootstrap interval "
        f"{result.estimate('log_volume_low').value:.6g} to {result.estimate('log_volume_high').value:.6g} nats.",
    )
    return (figure,)


def _running(result: Result, terms: Any) -> Figure:
    """The estimate from the first few rays, from more, from all: it climbs as long as the longest rays are missing."""
    counts = np.unique(np.geomspace(1, len(terms), _RUNNING_POINTS).round().astype(int))
    running = np.array([float(log_mean_exp(terms[:count])) for count in counts])
    typical = np.array([float(terms[:count].mean()) for count in counts])
    return Figure(
        name="log_volume_by_number_of_rays",
        title="The log-volume as rays are added",
        x=Axis(label="number of rays", scale="log"),
        y=Axis(label="log-volume (nats)"),
        marks=(
            Mark(kind="line", x=counts.astype(float), y=running, label="log-volume"),
            Mark(kind="line", x=counts.astype(float), y=typical, label="lower bound (mean)"),
        ),
        caption="A log-volume that goes on climbing is a maximum over rays, and not yet the volume.",
    )
