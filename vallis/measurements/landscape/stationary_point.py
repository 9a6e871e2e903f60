"""What kind of point a network stands at: a minimum, a saddle, or on a slope.

Definition: the point is stationary where the norm of the gradient of the mean loss is at most `gradient_tolerance`; it
    is a saddle where the smallest eigenvalue of the Hessian lies below minus `curvature_tolerance` times the largest
    magnitude, a strict minimum where it lies above that, and else a degenerate minimum, as far as probes of the second
    order tell. The probes are the lowest changes of the loss along random directions and along the eigenvector of the
    smallest eigenvalue.
Unit: nats/weight for the gradient, nats/weight^2 for curvature (nats is the loss's own unit where it is no
    log-likelihood).
Source: Sun et al. (2020), section II.
Cost: two gradients a Hessian product, up to max_products; num_directions passes forward a radius.
Says little when: the Hessian is singular, as it is in every wide network: then higher orders decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Outcome, Result, Source
from vallis.measurements.landscape._survey import SURVEY
from vallis.numerics.stationary_points import KINDS, certify
from vallis.numerics.surface import Precision, surface


@dataclass(frozen=True, kw_only=True)
class StationaryPoint:
    """A certificate of second order.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        gradient_tolerance: see above.
        curvature_tolerance: see above.
        radii: distances of the probes.
        num_directions: random ones.
        max_products: with the Hessian.
        precision: "auto" computes in float64 up to 10,000 parameters, and in the model's own type beyond.
        seed: of the random directions.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[Mapping[str, frozenset[str]]] = {
        "gradient_norm": frozenset({"unit_permutation"}),
        "smallest_eigenvalue": frozenset({"unit_permutation"}),
    }
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (SURVEY,)

    split: str = "train"
    max_examples: int | None = None
    gradient_tolerance: float = 1e-3
    curvature_tolerance: float = 1e-4
    radii: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    num_directions: int = 50
    max_products: int = 400
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "radii", tuple(self.radii))  # a list, when it comes from JSON
        if not self.radii or not all(radius > 0 for radius in self.radii):
            raise SettingsError(f"radii above 0 were required, {self.radii} came: give such as (0.01, 0.1)")
        if not (self.gradient_tolerance > 0 and self.curvature_tolerance > 0):
            raise SettingsError(
                "tolerances above 0 were required, "
                f"{self.gradient_tolerance} and {self.curvature_tolerance} came: raise them"
            )
        if self.num_directions < 1 or self.max_products < 1:
            raise SettingsError(
                "a direction and a product were required, "
                f"{self.num_directions} and {self.max_products} came: raise them"
            )

    @classmethod
    def tiny(cls) -> StationaryPoint:
        """The cheapest settings, for tests."""
        return cls(num_directions=2, radii=(1e-2,), max_products=40)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, self.precision, self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        found = certify(
            ground.objective,
            rng=Rng(self.seed).child("stationary_point"),
            gradient_tolerance=self.gradient_tolerance,
            curvature_tolerance=self.curvature_tolerance,
            radii=self.radii,
            num_directions=self.num_directions,
            max_products=self.max_products,
        )
        unit, coords = ground.unit, {"radius": found.radii}
        method = f"Lanczos, residual {found.residual:.1e}"
        values: dict[str, Estimate | Array] = {
            "kind": Estimate(value=float(KINDS.index(found.kind)), method=f"0 to 3: {', '.join(KINDS)}"),
            "gradient_norm": Estimate(value=found.gradient_norm, stderr=0.0, unit=f"{unit}/weight", method="exact"),
            "smallest_eigenvalue": Estimate(value=found.smallest, unit=f"{unit}/weight^2", method=method),
            "largest_eigenvalue": Estimate(value=found.largest, unit=f"{unit}/weight^2", method="Lanczos"),
            "lowest_changes": Array(data=found.lowest_changes, dims=("radius",), unit=unit, coords=coords),
            "downhill_changes": Array(data=found.downhill, dims=("radius",), unit=unit, coords=coords),
        }
        text = "The ends of the spectrum have not converged, so the kind is not certain: raise max_products."
        notes = () if found.converged else (Note(code="not_converged", text=text),)
        return Result(values=values, notes=(*ground.notes, *notes))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        marks = []
        for key, label in (("lowest_changes", "random directions"), ("downhill_changes", "most negative curvature")):
            held = result.array(key)
            words = [f"{radius:g}" for radius in held.coords["radius"]]
            marks.append(Mark(kind="bar", x=words, y=held.data, label=label))
        unit = result.array("lowest_changes").unit
        far, change = (
            Axis(label="distance (weight)", scale="category"),
            Axis(label=f"lowest change of the loss ({unit})"),
        )
        title = "What the loss does around the point"
        return (Figure(name="stationary_point", title=title, x=far, y=change, marks=tuple(marks)),)

    def reading(self, result: Result) -> str:
        kind = KINDS[int(result.estimate("kind").value)]
        gradient, low = result.estimate("gradient_norm").value, result.estimate("smallest_eigenvalue").value
        words = {
            "not_stationary": "This is no stationary point",
            "saddle": "This is a saddle",
            "degenerate_minimum": "This is a degenerate minimum, as far as the second order tells",
            "strict_minimum": "This is a strict minimum",
        }
        drop = float(np.nanmin(result.array("downhill_changes").data))
        said = f"{words[kind]}: the gradient has a norm of {gradient:.2g}, the smallest curvature is {low:.2g}"
        if low < 0 <= drop:
            near = ", ".join(f"{radius:g}" for radius in result.array("downhill_changes").coords["radius"])
            return f"{said}, but at the distances tried ({near}) the loss does not fall along it."
        return f"{said}, and along it the loss changes by {drop:.2g}."
