"""Where the answers of a classifier change: a map of its inputs.

Definition: on a grid the class of the highest score, and by how much its probability exceeds that of the next class. Of
    a problem with two inputs the map is of these; of any other it is of the plane through three training examples, with
    orthonormal axes, so that distances on it are distances between inputs. The length of the boundary is that of the
    curves between different answers (Cauchy and Crofton); a region is connected by sides of its grid cells.
Unit: classes by their number; 1 for probabilities; that of the inputs for lengths.
Source: Huang et al. (2019), section 3 and figure 3; Somepalli et al. (2022), section 3 (planes through three images).
Cost: num_points^2 passes forward of one input.
Says little when: the inputs have many dimensions: a plane through three of them is a thin slice, and what lies between
    is no likely input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.data import subset
from vallis.core.errors import DataError, SettingsError, UsageError
from vallis.core.figures import Figure
from vallis.core.functional import call
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements._sources import HUANG
from vallis.measurements.landscape import _decision_boundary_shown as shown
from vallis.measurements.landscape._decision_boundary_shown import gallery as gallery
from vallis.numerics.class_maps import ClassMap, class_map, scores_around
from vallis.numerics.planes import Floats, Plane, box_around, plane_through
from vallis.numerics.scores import judge
from vallis.numerics.surface import surface

COLUMNS = ("x", "y", "class", "right")


@dataclass(frozen=True, kw_only=True)
class DecisionBoundary:
    """A map of the answers.

    Attributes:
        split: whose examples are drawn, and from which the three are taken.
        max_examples: the most examples that are drawn.
        num_points: on each side of the grid.
        examples: the positions in the split of the three examples that span the plane; empty chooses three at random,
            of different classes as far as there are such. Of no use with two inputs.
        margin: how far the map reaches beyond the examples, as a share of their range.
        seed: chooses the three examples.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"full": {}}
    sources: ClassVar[tuple[Source, ...]] = (
        HUANG,
        Source(
            title="Can neural nets learn the same model twice? Investigating reproducibility and double descent from "
            "the decision boundary perspective",
            authors="G. Somepalli, L. Fowl, A. Bansal, P. Yeh-Chiang, Y. Dar, R. Baraniuk, M. Goldblum, T. Goldstein",
            year=2022,
            url="https://arxiv.org/abs/2203.08124",
        ),
    )

    split: str = "train"
    max_examples: int = 1000
    num_points: int = 200
    examples: tuple[int, ...] = ()
    margin: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", tuple(self.examples))  # a list, when it comes from JSON
        if self.num_points < 2 or self.max_examples < 1 or not self.margin >= 0:
            raise SettingsError(
                "num_points of at least 2, max_examples of at least 1 and no negative margin were required, "
                f"{self.num_points}, {self.max_examples} and {self.margin} came: change them"
            )
        if len(self.examples) not in (0, 3) or len(set(self.examples)) != len(self.examples):
            raise SettingsError(f"three different examples were required, {self.examples} came: give three, or none")

    @classmethod
    def tiny(cls) -> DecisionBoundary:
        """The cheapest settings, for tests."""
        return cls(num_points=12)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solution: Solution = subject
        objective = surface(solution, self.split).objective
        scores = scores_around(objective)
        if scores is None:
            text = "There is no map: inputs in one tensor of numbers, each of one class, were required."
            return NotApplicable(note=Note(code="not_classification", text=text))
        try:
            batch = _drawn(objective, self.max_examples, rng)
            flat, plane, spanning = self._plane(objective, batch.x)
        except UsageError as trouble:
            return NotApplicable(note=Note(code="no_plane", text=f"There is no map: {trouble}."))
        shape = batch.x.shape[1:]
        inputs = spanning.reshape(-1, *shape) if plane is not None else batch.x
        points = flat if plane is None else plane.coordinates(spanning)
        low_x, high_x, low_y, high_y = box_around(points, self.margin)
        x, y = np.linspace(low_x, high_x, self.num_points), np.linspace(low_y, high_y, self.num_points)
        found = class_map(scores, _grid(plane, x, y, batch.x).view(-1, *shape), x, y)
        if not np.isfinite(found.margins).all():
            text = "The scores are no finite numbers everywhere on the map: the training has diverged."
            return NotApplicable(note=Note(code="not_finite", text=text))
        targets = batch.y if plane is None else self._targets(objective)
        dims = shown.INPUTS if plane is None else shown.PLANE
        return Result(values=_values(found, dims, _examples(objective, inputs, targets, points)))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return shown.figures(result)

    def reading(self, result: Result) -> str:
        return shown.reading(result)

    def _plane(self, objective: Objective, x: torch.Tensor) -> tuple[Floats, Plane | None, torch.Tensor]:
        """The coordinates of two inputs; else the plane and the three examples that span it."""
        flat = x.flatten(1)
        if flat.shape[1] == 2:
            return flat.double().cpu().numpy(), None, flat
        three = objective.data.take(torch.tensor(self._three(objective)))
        spanning = three.x.to(x).flatten(1)
        return np.zeros((0, 2)), plane_through(list(spanning)), spanning

    def _three(self, objective: Objective) -> list[int]:
        """The positions of the three examples."""
        size = len(objective.data)
        if self.examples:
            if max(self.examples) >= size or min(self.examples) < 0:
                raise DataError(f"positions among {size} examples were required, {self.examples} came: choose others")
            return list(self.examples)
        if size < 3:
            raise DataError(f"three examples were required, {size} came: give more")
        order = torch.randperm(size, generator=Rng(self.seed).child("three").torch()).tolist()
        labels = torch.cat([torch.as_tensor(batch.y).reshape(len(batch), -1)[:, 0] for batch in objective.batches()])
        chosen: list[int] = []
        for place in order:
            if all(float(labels[place]) != float(labels[held]) for held in chosen):
                chosen.append(place)
        rest = [place for place in order if place not in chosen]
        return [*chosen, *rest][:3]

    def _targets(self, objective: Objective) -> Any:
        return objective.data.take(torch.tensor(self._three(objective))).y


def _drawn(objective: Objective, max_examples: int, rng: Rng) -> Any:
    """At most so many examples, in one batch on the device of the network."""
    part = objective.over(subset(objective.data, max_examples, rng.child("examples")))
    batches = list(part.batches())
    x, y = torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches])
    return type(batches[0])(x=x, y=y, index=torch.cat([batch.index for batch in batches]))


def _grid(plane: Plane | None, x: Floats, y: Floats, like: torch.Tensor) -> torch.Tensor:
    if plane is not None:
        return plane.grid(x, y)
    across, up = np.meshgrid(x, y)
    return torch.from_numpy(np.stack([across.ravel(), up.ravel()], axis=1)).to(like)


def _examples(objective: Objective, inputs: torch.Tensor, targets: Any, points: Floats) -> Floats:
    """``(n, 4)`` where examples stand, their classes, and whether they are answered rightly."""
    params = dict(zip(objective.names, objective.origin, strict=True))
    with torch.no_grad():
        outputs = call(objective.module, params, objective.buffers, inputs)
    judged = judge(objective.loss, outputs, targets.to(inputs.device))
    assert judged is not None
    rows = judged.rows.cpu().numpy()
    right = (judged.margins > 0).double().cpu().numpy()
    return np.column_stack([points[rows], judged.classes.double().cpu().numpy(), right])


def _values(found: ClassMap, dims: tuple[str, str], points: Floats) -> dict[str, Estimate | Array]:
    coords = {dims[0]: found.y, dims[1]: found.x}
    size = found.classes.size
    method = f"on a grid of {len(found.x)} by {len(found.y)} points"
    return {
        "classes": Array(data=found.classes, dims=dims, coords=coords),
        "probability_margins": Array(data=found.margins, dims=dims, coords=coords),
        "examples": Array(data=points, dims=("example", "column")),
        "boundary_length": Estimate(value=found.boundary_length(), n=size, unit="input", method=method),
        "num_regions": Estimate(
            value=found.num_regions(), stderr=0.0, n=size, unit="regions", method=f"counted {method}"
        ),
        "mean_probability_margin": Estimate(value=float(found.margins.mean()), n=size, method=method),
    }
