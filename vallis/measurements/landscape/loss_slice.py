"""What the loss looks like around the network: along two random directions, and on the plane that they span.

Definition: L(theta + a d) and L(theta + a d + b e) over a split, with d and e Gaussian and filter-normalised: every
    filter of a weight is moved by its own norm at a = 1; biases and normalisation parameters stay. The centre is the
    network itself. The rise radius is the smallest |a| at which the loss has risen by `rise` on either side, at most
    `span`.
Unit: nats for the loss (its own unit where it is no log-likelihood); steps are relative to the norms of the filters.
Source: Li et al. (2018), sections 3 and 4.
Cost: a pass forward, a third of a gradient, for each point: 2 num_points + num_points_plane^2 of them.
Says little when: two directions of millions are taken for the whole. The sharp directions are few, and a random one
    hardly meets them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from vallis.core.errors import LossError, SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements.landscape._loss_slice_together import together as together
from vallis.numerics.directions import Normalisation, random_direction, without_normalisation
from vallis.numerics.joint_slices import Losses, landscapes
from vallis.numerics.refinement import Refined, refined_plane
from vallis.numerics.renewal import Renewal, has_statistics
from vallis.numerics.slices import Floats, Landscape
from vallis.numerics.surface import QUICK, Budget, Surface, surface
from vallis.problems._checks import check_choice

_LINES = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class LossSlice:
    """The loss on two lines and a plane around the network.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        max_operations: the most floating-point operations, by a count of what the network costs; of more examples than
            they are enough for a random part is taken, at least a hundred. None does not count.
        span: how far to go in each direction, relative to the norms of the filters.
        num_points: on each line; odd, so that the centre is one of them.
        num_points_plane: on each side of the plane; odd.
        rise: by how much the loss rises at the rise radius.
        seed: chooses the directions. Networks with the same parameters get the same ones.
        normalisation: of the directions, see `vallis.numerics.directions.random_direction`.
        renew_statistics: estimate those of batch normalisation anew at every point, from the split "train".
        refine: halve the grid of the plane where it bends, at a third of `num_points_plane` squared losses at most: the
            picture is twice as fine, and most of its points are interpolated (see `vallis.numerics.refinement`, also
            for how good that is). The note "rough_plane" says where the full grid is better.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"max_examples": 2000, "max_operations": QUICK},
        "full": {"num_points": 101, "num_points_plane": 51},
    }
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Visualizing the loss landscape of neural nets",
            authors="H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein",
            year=2018,
            url="https://arxiv.org/abs/1712.09913",
        ),
    )

    split: str = "train"
    max_examples: int | None = None
    max_operations: float | None = field(default=None, metadata={"was": None})
    span: float = 1.0
    num_points: int = 51
    num_points_plane: int = 25
    rise: float = 0.1
    seed: int = 0
    normalisation: Normalisation = field(default="filter", metadata={"was": "filter"})
    renew_statistics: bool = field(default=False, metadata={"was": False})
    refine: bool = field(default=False, metadata={"was": False})

    def __post_init__(self) -> None:
        for name in ("num_points", "num_points_plane"):
            if getattr(self, name) < 3 or getattr(self, name) % 2 == 0:
                raise SettingsError(f"{name} must be odd and at least 3, {getattr(self, name)} came: change it")
        check_choice("loss_slice.normalisation", self.normalisation, Normalisation)
        if not (self.span > 0 and self.rise > 0):
            raise SettingsError(f"span and rise above 0 were required, {self.span} and {self.rise} came: raise them")
        self._budget()  # complains of what makes no sense

    @classmethod
    def tiny(cls) -> LossSlice:
        """The cheapest settings, for tests."""
        return cls(num_points=5, num_points_plane=3)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        return self.measure_many((subject,), rng)[0]

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        views = [self._view(each, rng) for each in subjects]
        sound = [view for view in views if isinstance(view, _View)]
        joint = self._joint(sound)
        results = iter([self._result(view, [each.get(place) for each in joint]) for place, view in enumerate(sound)])
        return [next(results) if isinstance(view, _View) else view for view in views]

    def _joint(self, views: Sequence[_View]) -> list[dict[int, Losses]]:
        """Of both lines and the plane, for networks that are looked at together."""
        if any(view.renewal is not None for view in views):
            return [{}, {}, {}]
        objectives = [view.ground.objective for view in views]

        def along(*lines: int) -> dict[int, Losses]:
            return landscapes(objectives, lambda place: [views[place].direction(line) for line in lines])

        lines = [along(line) for line in range(len(_LINES))]
        # Where a grid is refined is for each network to say.
        plane = {} if self.refine else along(*range(len(_LINES)))
        return [*lines, plane]

    def _view(self, subject: Solution, rng: Rng) -> _View | NotApplicable:
        """What is to be looked at, and along which directions."""
        ground = surface(subject, self.split, max_examples=self.max_examples, rng=rng, budget=self._budget())
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        objective, stream = ground.objective, rng.child("directions", self.seed)

        def direction(line: int) -> list[torch.Tensor]:
            return _direction(objective, stream.child(_LINES[line]), self.normalisation)

        if not any(bool(part.any()) for line in range(len(_LINES)) for part in direction(line)):
            text = "No parameter is a weight with filters (or all are zero), so there is no direction to go."
            return NotApplicable(note=Note(code="no_direction", text=text))
        of = len(subject.task.splits[self.split])
        return _View(ground, direction, self._renewal(subject, objective), of)

    def _result(self, view: _View, joint: Sequence[Losses | None]) -> Result:
        ground, steps = view.ground, _steps(self.span, self.num_points)
        values: dict[str, Estimate | Array] = {}
        lines = {}
        for line, name in enumerate(_LINES):
            landscape = joint[line] or Landscape(ground.objective, [view.direction(line)], view.renewal)
            lines[name], found = self._line(landscape, steps, ground, name, view.of)
            values |= found
        values = {"centre_loss": self._centre(values, ground), **values}
        both = joint[-1] or Landscape(
            ground.objective, [view.direction(line) for line in range(len(_LINES))], view.renewal
        )
        flat, found, rough = self._plane(both, ground.unit)
        radii, notes = self._radii(steps, lines, ground.unit)
        renewed = () if view.renewal is None else (_RENEWED,)
        return Result(
            values=values | found | radii,
            notes=(*ground.notes, *renewed, *notes, *rough, *_gaps([*lines.values(), flat])),
        )

    def _renewal(self, subject: Any, objective: Objective) -> Renewal | None:
        if not (self.renew_statistics and has_statistics(objective.module)):
            return None
        return Renewal(objective.over(subject.task.splits["train"]))

    def _line(
        self, landscape: Losses, steps: Floats, ground: Surface, name: str, of: int
    ) -> tuple[Floats, dict[str, Estimate | Array]]:
        """The losses on a line; of a part of the data with error bars over the choice of the part."""
        points = [(step,) for step in steps]

        def along(data: Floats) -> Array:
            return Array(data=data, dims=("step",), unit=ground.unit, coords={"step": steps})

        if ground.is_part:
            try:
                found = landscape.spread(points, "line", of)
            except LossError:  # the loss cannot be taken apart, so nobody knows
                pass
            else:
                errors = {f"errors_{name}": along(found.errors), f"rise_errors_{name}": along(found.rise_errors)}
                return found.losses, {f"losses_{name}": along(found.losses), **errors}
        losses = landscape.losses(points, "line")
        return losses, {f"losses_{name}": along(losses)}

    def _plane(self, landscape: Losses, unit: str) -> tuple[Floats, dict[str, Estimate | Array], tuple[Note, ...]]:
        dims = ("second_step", "first_step")
        if not self.refine:
            grid = _steps(self.span, self.num_points_plane)
            points = [(a, b) for b in grid for a in grid]
            flat = landscape.losses(points, "plane").reshape(len(grid), len(grid))
            return flat, {"losses_plane": Array(data=flat, dims=dims, unit=unit, coords=dict.fromkeys(dims, grid))}, ()
        found = refined_plane(landscape.losses, self.span, most=max(49, self.num_points_plane**2 // 3))
        axes = dict.fromkeys(dims, found.steps)
        values: dict[str, Estimate | Array] = {
            "losses_plane": Array(data=found.losses, dims=dims, unit=unit, coords=axes),
            "plane_computed": Array(data=found.computed.astype(float), dims=dims, coords=axes),
        }
        return found.losses, values, _rough(found)

    def _budget(self) -> Budget:
        num_points = 2 * self.num_points + self.num_points_plane**2
        return Budget(gradients=num_points / 3, max_operations=self.max_operations)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        unit, flat = result.estimate("centre_loss").unit, result.array("losses_plane")
        lines = [result.array(f"losses_{name}") for name in _LINES]
        marks = [
            Mark(kind="line", x=found.coords["step"], y=found.data, label=f"{name} direction")
            for name, found in zip(_LINES, lines, strict=True)
        ]
        for name, found in zip(_LINES, lines, strict=True):
            if f"errors_{name}" in result.values:
                errors = result.array(f"errors_{name}").data
                low, high = found.data - errors, found.data + errors
                x = found.coords["step"]
                marks.append(Mark(kind="band", x=x, low=low, high=high, label=f"{name} direction"))
        grid: dict[str, Any] = {"x": flat.coords["first_step"], "y": flat.coords["second_step"], "z": flat.data}
        first, second = (Axis(label=f"step along the {name} direction") for name in _LINES)
        loss = Axis(label=f"loss ({unit})", scale=_scale(flat.data))
        along = Axis(label="step (1: every filter moved by its norm)")
        height = Axis(label=f"loss ({unit})", scale=_scale(np.concatenate([found.data for found in lines])))
        flat_mark, raised_mark = Mark(kind="heatmap", **grid), Mark(kind="surface", **grid)
        return (
            Figure(
                name="loss_lines", title="The loss along two random directions", x=along, y=height, marks=tuple(marks)
            ),
            Figure(name="loss_plane", title="The loss on a plane", x=first, y=second, z=loss, marks=(flat_mark,)),
            Figure(name="loss_surface", title="The loss over a plane", x=first, y=second, z=loss, marks=(raised_mark,)),
        )

    def reading(self, result: Result) -> str:
        centre, found = result.estimate("centre_loss"), [result.estimate(f"rise_radius_{name}") for name in _LINES]
        unit = "" if centre.unit == "1" else f" {centre.unit}"
        reached = [radius for radius in found if radius.value < self.span]
        where = "two random directions" if len(reached) == 2 else "one of two random directions"
        said = f"Along {where} the loss rises from {centre.value:.3g} by {self.rise:g}{unit}"
        if not reached:
            far = f"within {self.span:g} of the filters' norms"
            return f"The loss does not rise by {self.rise:g}{unit} {far} along either of two random directions."
        shares = " and ".join(f"{radius.value:.2g}" for radius in reached)
        said += f" once every filter has moved by {shares} of its norm"
        lowest = float(np.nanmin(result.array("losses_plane").data))
        if lowest < centre.value - 0.01 * abs(centre.value):
            said += f"; there are lower places on the plane, the lowest at {lowest:.3g}, so this is no minimum"
        return f"{said}."

    def _centre(self, values: Mapping[str, Estimate | Array], ground: Surface) -> Estimate:
        # Bit for bit the loss of the network: the middle step is zero.
        middle = {
            name: float(held.data[self.num_points // 2]) for name, held in values.items() if isinstance(held, Array)
        }
        error = middle.get("errors_first") if ground.is_part else 0.0
        method = "mean loss of a part of the split" if ground.is_part else "mean loss of the split, taken as given"
        return Estimate(
            value=middle["losses_first"], stderr=error, n=len(ground.objective.data), unit=ground.unit, method=method
        )

    def _radii(
        self, steps: Floats, lines: dict[str, Floats], unit: str
    ) -> tuple[dict[str, Estimate | Array], tuple[Note, ...]]:
        method = f"where the loss has risen by {self.rise:g} ({unit}), between grid points by a straight line"
        found = {name: rise_radius(steps, losses, self.rise) for name, losses in lines.items()}
        values: dict[str, Estimate | Array] = {
            f"rise_radius_{name}": Estimate(value=min(radius, self.span), stderr=None, method=method)
            for name, radius in found.items()
        }
        missed = [name for name, radius in found.items() if not np.isfinite(radius)]
        if not missed:
            return values, ()
        text = (
            f"Along the {' and the '.join(missed)} direction the loss does not rise by {self.rise:g} within "
            f"{self.span:g}: the radius is at least that."
        )
        return values, (Note(code="rise_not_reached", text=text),)


@dataclass(frozen=True, eq=False)
class _View:
    """What is looked at.

    Attributes:
        ground: the loss surface.
        direction: draws that of a line, the same at every call: those of many networks need not be held at once.
        renewal: of the statistics of batch normalisation, where that is wanted and there are any.
        of: how many examples there are, of which the surface may see a part.
    """

    ground: Surface
    direction: Callable[[int], list[torch.Tensor]]
    renewal: Renewal | None
    of: int


def rise_radius(steps: Floats, losses: Floats, rise: float) -> float:
    """The smallest distance from the middle of a line at which the loss has risen by `rise`, inf if it never does.

    Args:
        steps: ``(n,)`` rising, zero in the middle.
        losses: ``(n,)``; between a finite loss and one that is not, the rise is put at the finite one.
        rise: above the loss in the middle.
    """
    middle = len(steps) // 2
    limit = losses[middle] + rise
    radii = [np.inf]
    for side in (1, -1):
        path, distance = losses[middle::side], np.abs(steps[middle::side])
        beyond = np.flatnonzero(~(path < limit))
        if len(beyond):
            after = int(beyond[0])
            before = after - 1
            share = (limit - path[before]) / (path[after] - path[before]) if np.isfinite(path[after]) else 0.0
            radii.append(float(distance[before] + share * (distance[after] - distance[before])))
    return min(radii)


def _direction(objective: Objective, rng: Rng, normalisation: Normalisation) -> list[torch.Tensor]:
    """A random direction that leaves normalisation layers alone, also where nothing is normalised."""
    alone = without_normalisation(objective.module, objective.names, objective.origin)
    drawn = random_direction(objective.names, alone, rng, normalisation)
    parts = zip(drawn, alone, objective.origin, strict=True)
    return [part if held is value else held for part, held, value in parts]


def _steps(span: float, num_points: int) -> Floats:
    """``(num_points,)`` from -span to span, with an exact zero in the middle and no asymmetry of rounding."""
    half = np.linspace(0.0, span, num_points // 2 + 1)
    return np.concatenate([-half[:0:-1], half])


_RENEWED = Note(
    code="statistics_renewed",
    text="The statistics of batch normalisation were estimated anew at every point, so the centre is not quite the "
    "network as it is deployed.",
)


def _scale(losses: Floats) -> Literal["linear", "log"]:
    """Logarithmic where the losses are positive and span more than a decade."""
    finite = losses[np.isfinite(losses)]
    return "log" if finite.size and finite.min() > 0 and finite.max() > 10 * finite.min() else "linear"


def _rough(found: Refined) -> tuple[Note, ...]:
    """That the plane is no good ground for interpolation, if so."""
    if not found.is_rough:
        return ()
    text = (
        "The plane bends too sharply for its grid: where it was halved, predictions were still off by "
        f"{100 * found.gain:.0f} % of what they had been. With {found.num_computed} losses contours are likely worse "
        "than those of a full grid, by up to a factor of 2: refine=False computes that."
    )
    return (Note(code="rough_plane", text=text),)


def _gaps(found: list[Floats]) -> tuple[Note, ...]:
    lost = sum(int((~np.isfinite(losses)).sum()) for losses in found)
    if not lost:
        return ()
    text = f"At {lost} points the loss is no finite number; they are kept as such and drawn as gaps."
    return (Note(code="not_finite", text=text),)
