"""Where a training went: its path on the plane of its two largest components, over the loss there.

Definition: with the solutions of a training as points of weight space seen from the last of them, the directions of
    their principal components, and each one's share of the squared distances; the loss at
    theta_last + x first + y second on a grid that holds the path. The points drawn are the feet of the true ones.
Unit: Euclidean distance between weights for x and y; nats for the loss (its own unit where it is no log-likelihood).
Source: Li et al. (2018), section 7.
Cost: a pass forward over the split, a third of a gradient, for each of num_points^2 points.
Says little when: two components explain little, or are read as more than they are: a random walk, too, lies near a
    plane (of one of many dimensions two components explain 8/pi^2 (1 + 1/9), nine tenths of its distances to the end).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Source
from vallis.measurements import _stages
from vallis.numerics.embeddings import principal_components
from vallis.numerics.planes import box_around
from vallis.numerics.slices import plane
from vallis.numerics.surface import surface


@dataclass(frozen=True, kw_only=True)
class TrajectoryPlane:
    """The plane that a training went along most.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        num_points: on each side of the grid.
        margin: how far the grid reaches beyond the path, as a share of its longer side.
        num_components: whose shares are told; the first two are drawn.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "trajectory"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
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
    num_points: int = 25
    margin: float = 0.2
    num_components: int = 10

    def __post_init__(self) -> None:
        if self.num_points < 2 or self.num_components < 2 or not self.margin >= 0:
            raise SettingsError(
                "num_points and num_components of at least 2 and no negative margin were required, "
                f"{self.num_points}, {self.num_components} and {self.margin} came: change them"
            )

    @classmethod
    def tiny(cls) -> TrajectoryPlane:
        """The cheapest settings, for tests."""
        return cls(num_points=3)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solutions, of_stages = _stages.last_of(subject)
        ground = surface(solutions[-1], self.split, max_examples=self.max_examples, rng=rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        objective = ground.objective
        points = np.stack([objective.vector(tuple(each.params.values())).double().cpu().numpy() for each in solutions])
        refused = _refused(points)
        if refused is not None:
            return NotApplicable(note=refused)
        number = min(self.num_components, len(points) - 1, points.shape[1])
        found = principal_components(points, max(number, 2), centre=points[-1])
        first, second = (objective.point(torch.from_numpy(axis).to(objective.origin[0])) for axis in found.axes[:2])
        path = found.coordinates[:, :2]
        low_x, high_x, low_y, high_y = box_around(path, self.margin, square=False)
        x, y = np.linspace(low_x, high_x, self.num_points), np.linspace(low_y, high_y, self.num_points)
        losses = plane(objective, first, second, x, y)
        steps = np.array([float(each.step) for each in solutions])
        off = np.linalg.norm(points - points[-1] - path @ found.axes[:2], axis=1)
        values: dict[str, Estimate | Array] = {
            "losses": Array(data=losses, dims=("second", "first"), unit=ground.unit, coords={"second": y, "first": x}),
            "path": Array(data=path, dims=("step", "component"), unit="weight", coords={"step": steps}),
            "distance_to_plane": Array(data=off, dims=("step",), unit="weight", coords={"step": steps}),
            "explained_fractions": Array(data=found.explained[:number], dims=("component",)),
            "plane_fraction": Estimate(
                value=float(found.explained[:2].sum()),
                n=len(points),
                method="share of the squared distances to the end",
            ),
        }
        lost = int((~np.isfinite(losses)).sum())
        text = f"At {lost} points of the plane the loss is no finite number; they are drawn as gaps."
        notes = (Note(code="not_finite", text=text),) if lost else ()
        return Result(values=values, notes=(*ground.notes, *notes, *of_stages))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        ground, path = result.array("losses"), result.array("path").data
        finite = ground.data[np.isfinite(ground.data)]
        logarithmic = finite.size > 0 and finite.min() > 0 and finite.max() > 10 * finite.min()
        marks = (
            Mark(kind="heatmap", x=ground.coords["first"], y=ground.coords["second"], z=ground.data),
            Mark(kind="line", x=path[:, 0], y=path[:, 1], label="path of the training"),
            Mark(kind="scatter", x=path[-1:, 0], y=path[-1:, 1], label="end of the path"),
        )
        shares = result.array("explained_fractions").data
        labels = [
            f"component {place} ({100 * share:.0f} % explained)" for place, share in enumerate(shares[:2], start=1)
        ]
        labels += ["component 2"] if len(labels) < 2 else []
        height = Axis(label=f"loss ({ground.unit})", scale="log" if logarithmic else "linear")
        x, y = Axis(label=labels[0]), Axis(label=labels[1])
        title = "The path of a training over the loss"
        bars = Mark(kind="bar", x=[str(place) for place in range(1, len(shares) + 1)], y=shares)
        component = Axis(label="component", scale="category")
        share = Axis(label="share of the squared distances to the end")
        return (
            Figure(name="trajectory_plane", title=title, x=x, y=y, z=height, marks=marks),
            Figure(
                name="trajectory_components", title="What each component explains", x=component, y=share, marks=(bars,)
            ),
        )

    def reading(self, result: Result) -> str:
        share, number = result.estimate("plane_fraction").value, len(result.array("path").data)
        far = float(result.array("distance_to_plane").data.max())
        said = f"Two components explain {100 * share:.3g} % of the squared distances of {number} moments to the end"
        return f"{said}; the moment furthest from the plane is {far:.2g} away from it."


def _refused(points: np.ndarray[Any, np.dtype[np.float64]]) -> Note | None:
    if len(points) < 3 or points.shape[1] < 2:
        text = f"A plane needs three moments and two parameters, {len(points)} and {points.shape[1]} came."
        return Note(code="too_few_moments", text=text)
    if not np.isfinite(points).all():
        return Note(
            code="not_finite", text="A moment has weights that are no finite numbers: the training has diverged."
        )
    if bool((points == points[-1]).all()):
        return Note(code="one_point", text="The training never moved, so there is no plane.")
    return None
