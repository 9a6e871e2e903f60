"""A bad local minimum and a dead plateau of a ReLU network of any width, built from the data and put to the test.

Definition: with squared loss on the examples of the solution (classes as one-hot vectors) a network with one hidden
    layer of `width` units is given weights that make it equal to the affine least-squares fit with all units firing:
    near it every network is affine, so it is a local minimum. Another is given weights with which no unit fires: its
    gradient is zero. A third, with random hidden weights and fitted outputs, has a lower loss than both. The solution's
    own network plays no part.
Unit: the mean squared error's own unit (1) for losses, 1/weight for gradients, 1/weight^2 for curvature.
Source: Sun et al. (2020), section III; Yun, Sra and Jadbabaie (2019), theorem 1; Ding, Li and Sun (2019).
Cost: num_directions passes a radius, some hundred Hessian products, num_steps gradients, on max_examples examples.
Says little when: asked whether training ends there. It does not, as a rule; the point exists all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.data import Arrays
from vallis.core.errors import DataError, SettingsError, UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.own import coordinates
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Net, NotApplicable, Note, Outcome, Result, Solution, Source, Task
from vallis.measurements.landscape._survey import SURVEY
from vallis.numerics.bad_minima import Written, affine_minimum, better_point, dead_plateau
from vallis.numerics.curvature import Hessian
from vallis.numerics.lanczos import eigenpairs
from vallis.numerics.regression_targets import regression_targets
from vallis.numerics.stationary_points import KINDS, certify


@dataclass(frozen=True, kw_only=True)
class ConstructedMinimum:
    """Stationary points that are written down.

    Attributes:
        width: hidden units, at least as many as targets an example.
        split: whose examples.
        max_examples: of more examples a random part of this size is taken: the first may be all of one class.
        radii: distances at which random directions are tried.
        num_directions: how many.
        num_steps: of gradient descent from beside the minimum.
        noise: how far beside it the descent begins, in each weight.
        seed: of that part, of directions and noise.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (SURVEY,)

    width: int = 100
    split: str = "train"
    max_examples: int = 50
    radii: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    num_directions: int = 200
    num_steps: int = 300
    noise: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "radii", tuple(self.radii))  # a list, when it comes from JSON
        least = {"width": 1, "max_examples": 2, "num_directions": 1, "num_steps": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise SettingsError(f"{name} must be at least {number}, {getattr(self, name)} came: raise it")
        if not self.radii or not all(radius > 0 for radius in self.radii) or not self.noise >= 0:
            raise SettingsError(f"radii above 0 and no negative noise were required, {self.radii} came: change them")

    @classmethod
    def tiny(cls) -> ConstructedMinimum:
        """The cheapest settings, for tests."""
        return cls(width=3, max_examples=12, radii=(1e-3,), num_directions=2, num_steps=2)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solution: Solution = subject
        stream = Rng(self.seed).child("constructed_minimum")
        try:
            x, y = self._examples(solution, stream.child("examples"))
            minimum = affine_minimum(x, y, self.width)
        except UsageError as trouble:
            return NotApplicable(note=Note(code="not_built", text=f"No network was built: {trouble}."))
        plateau = dead_plateau(x, y, self.width, stream.child("plateau"))
        better = better_point(x, y, self.width, stream.child("better"))
        grounds = [_ground(held, x, y) for held in (minimum, plateau, better)]
        found = certify(
            grounds[0], rng=stream.child("certificate"), radii=self.radii, num_directions=self.num_directions,
            gradient_tolerance=1e-8, curvature_tolerance=1e-8,
        )  # fmt: skip
        descent = self._descent(grounds[0], stream.child("noise"))
        exact = {"stderr": 0.0, "method": "exact, in float64"}
        losses = [ground.value() for ground in grounds]
        values: dict[str, Estimate | Array] = {
            "minimum_loss": Estimate(value=losses[0], n=len(x), **exact),  # type: ignore[arg-type]
            "affine_residual": Estimate(value=minimum.loss, n=len(x), stderr=0.0, method="least squares, exact"),
            "minimum_margin": Estimate(value=minimum.margin, stderr=0.0, method="least activation, exact"),
            "minimum_gradient": Estimate(value=found.gradient_norm, stderr=0.0, unit="1/weight", method="exact"),
            "minimum_curvature": Estimate(
                value=found.smallest, stderr=None, unit="1/weight^2", method=f"residual {found.residual:.1e}"
            ),
            "minimum_kind": Estimate(value=float(KINDS.index(found.kind)), method=f"0 to 3: {', '.join(KINDS)}"),
            "plateau_loss": Estimate(value=losses[1], n=len(x), **exact),  # type: ignore[arg-type]
            "target_variance": Estimate(value=plateau.loss, n=len(x), **exact),  # type: ignore[arg-type]
            "plateau_gradient": Estimate(
                value=float(grounds[1].gradient().norm()), stderr=0.0, unit="1/weight", method="exact"
            ),
            "better_loss": Estimate(
                value=losses[2], n=len(x), method="random hidden weights, outputs by least squares"
            ),
            "lowest_changes": Array(data=found.lowest_changes, dims=("radius",), coords={"radius": found.radii}),
            "descent_losses": Array(data=descent, dims=("step",)),
            "descent_end": Estimate(value=float(descent[-1]), n=len(descent), method="after the last step"),
        }
        return Result(values=values, notes=(_FITTED,) if _is_fitted(minimum.loss, plateau.loss) else ())

    def figures(self, result: Result) -> tuple[Figure, ...]:
        words = ["no unit fires", "affine minimum", "descent from beside it", "another network"]
        keys = ["plateau_loss", "minimum_loss", "descent_end", "better_loss"]
        heights = np.array([result.estimate(key).value for key in keys])
        bars = Mark(kind="bar", x=words, y=np.maximum(heights, 1e-16))
        place, loss = Axis(label="network", scale="category"), Axis(label="mean squared error", scale="log")
        title = f"A bad local minimum of {self.width} ReLU units"
        return (Figure(name="constructed_minimum", title=title, x=place, y=loss, marks=(bars,)),)

    def reading(self, result: Result) -> str:
        at, better = result.estimate("minimum_loss").value, result.estimate("better_loss").value
        lowest = float(result.array("lowest_changes").data.min())
        kind = KINDS[int(result.estimate("minimum_kind").value)].replace("_", " ")
        said = f"With {self.width} ReLU units there is a point of loss {at:.4g} ({kind}) around which "
        said += f"{self.num_directions} random directions change the loss by {lowest:.2g} or more"
        if _is_fitted(at, result.estimate("target_variance").value):
            return f"{said}; it is not bad, for an affine function fits these few examples."
        if better < at:
            return f"{said}; it is bad, for another point of the same network has a loss of {better:.2g}."
        return f"{said}; no better point of this width was found."

    def _examples(self, solution: Solution, rng: Rng) -> tuple[torch.Tensor, torch.Tensor]:
        data = solution.task.splits[self.split]
        batch = data.take(torch.randperm(len(data), generator=rng.torch())[: self.max_examples].sort().values)
        if not isinstance(batch.x, torch.Tensor) or not batch.x.is_floating_point() or batch.x.ndim < 2:
            raise DataError("inputs in one tensor of numbers were required, others came: choose another problem")
        (targets,) = regression_targets(solution.task.loss, [batch.y.cpu()])
        return batch.x.flatten(1).double().cpu(), targets

    def _descent(self, ground: Objective, rng: Rng) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Losses of gradient descent from beside the minimum; the step is a fifth of the inverse of the curvature."""
        vector = ground.vector(ground.origin)
        noise = torch.randn(len(vector), generator=rng.torch(), dtype=torch.float64)
        here, losses = vector + self.noise * noise, []
        rate = 0.2 / max(self._sharpness(ground, rng), 1e-12)
        for _ in range(self.num_steps):
            here = here - rate * ground.gradient(ground.point(here))
            losses.append(ground.value(ground.point(here)))
        return np.array(losses)

    def _sharpness(self, ground: Objective, rng: Rng) -> float:
        found = eigenpairs(Hessian(ground), largest=1, rng=rng.child("sharpness"), tolerance=0.1, max_products=60)
        return float(found.largest.values[0])


_FITTED = Note(
    code="affine_fits",
    text="An affine function fits these examples, so the minimum that was built is the lowest there is: raise "
    "max_examples above the number of inputs.",
)


def _is_fitted(residual: float, variance: float) -> bool:
    return residual <= max(1e-12 * variance, 1e-24)  # of equal targets the variance is 0, and the residual rounding


def _ground(held: Written, x: torch.Tensor, y: torch.Tensor) -> Objective:
    """The squared loss around a network that was written down."""
    params, buffers = coordinates(held.module)
    task = Task(name="written", splits={"train": Arrays(x=x, y=y, index=torch.arange(len(x)))}, loss=SquaredError())
    return Objective(Solution(net=Net(module=held.module), params=params, buffers=buffers, tasks=(task,)))
