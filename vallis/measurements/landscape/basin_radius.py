"""How far the weights can move, in random directions, before the loss has risen to a cutoff.

Definition: r(d) = min(cap, the first c > 0 with L(theta + c d) >= cutoff), L the mean loss over a split, for random
    directions d in units of the filters: every weight is counted in norms of its filter, biases and normalisation
    parameters stay. After c = 1 the filters have moved by their norms: in the root mean square over filters where d is
    uniform on the sphere in all n coordinates ("sphere"), each of them where it is uniform filter by filter
    ("filters"). The cutoff is a loss ("absolute"), or a rise above that of the centre ("rise").
Unit: 1, norms of the filters; nats for the loss (its own unit where it is no log-likelihood).
Source: Huang et al. (2020), section 4; Li et al. (2018), section 4 (units of the filters).
Cost: a pass forward, a third of a gradient, for each loss: some 6 a ray, num_scans more, and 25 for each drawn ray.
Says little when: the loss at the centre is not far below the cutoff; the radius then measures that. Networks are
    compared that end at different losses. A crossing before the first that was met may have been missed; num_scans
    looks for some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vallis.core.errors import SettingsError
from vallis.core.figures import Figure
from vallis.core.numbers import quantity, written
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Outcome, Result, Source
from vallis.measurements._sources import HUANG
from vallis.measurements.landscape import _basin
from vallis.numerics.basin_radii import Level, basin_radii
from vallis.numerics.rays import Rays, Shape
from vallis.numerics.surface import QUICK, Budget


@dataclass(frozen=True, kw_only=True)
class BasinRadius:
    """The distance to the edge of the basin along random rays.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        max_operations: the most floating-point operations, by a count of what the network costs; of more examples than
            they are enough for a random part is taken, at least a hundred. None does not count.
        cutoff: the loss at the edge, or the rise to it, in the unit of the loss.
        level: which of both: "absolute" or "rise".
        rays: what directions are uniform on: "sphere" (all coordinates together) or "filters" (each by itself).
        num_rays: how many.
        cap: the largest radius.
        tolerance: relative, of each radius.
        num_scans: at so many steps before each crossing an earlier one is looked for.
        num_drawn: along so many rays the loss is drawn.
        seed: chooses the directions. Networks with the same parameters get the same ones.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "max_examples": 2000,
            "max_operations": QUICK,
            "level": "rise",
            "num_rays": 50,
            "num_scans": 0,
            "num_drawn": 8,
        },
        "full": {"max_examples": 10_000, "level": "rise"},
    }
    sources: ClassVar[tuple[Source, ...]] = (HUANG, _basin.LI)

    split: str = "train"
    max_examples: int | None = None
    max_operations: float | None = field(default=None, metadata={"was": None})
    cutoff: float = 0.1
    level: Level = "absolute"
    rays: Shape = "sphere"
    num_rays: int = 200
    cap: float = 1.0
    tolerance: float = 0.01
    num_scans: int = 3
    num_drawn: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        _basin.must_make_sense(self.num_rays, self.num_scans, self.num_drawn)
        if not (self.cutoff > 0 and self.cap > 0 and self.tolerance > 0):
            came = f"{self.cutoff}, {self.cap} and {self.tolerance}"
            raise SettingsError(f"a cutoff, a cap and a tolerance above 0 were required, {came} came: raise them")
        self._budget()  # complains of what makes no sense

    @classmethod
    def tiny(cls) -> BasinRadius:
        """The cheapest settings, for tests."""
        return cls(level="rise", num_rays=6, num_scans=0, num_drawn=1)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = _basin.ground_of(subject, self.split, self.max_examples, rng, self._budget())
        if isinstance(ground, NotApplicable):
            return ground
        rays = Rays(ground.frame, rng.child("directions", self.seed), self.rays)
        found = basin_radii(
            ground.surface.objective,
            rays,
            self.num_rays,
            cutoff=self.cutoff,
            level=self.level,
            cap=self.cap,
            tolerance=self.tolerance,
            num_scans=self.num_scans,
        )
        drawn, notes = _basin.fan(ground, rays, found, self.num_drawn)
        values = {**_basin.radius_values(found, ground, _basin.RAYS[self.rays]), **drawn}
        return Result(values=values, notes=(*ground.surface.notes, *_basin.radius_notes(found, self.num_scans), *notes))

    def _budget(self) -> Budget:
        num_losses = self.num_rays * (6 + self.num_scans) + 25 * self.num_drawn
        return Budget(gradients=num_losses / 3, max_operations=self.max_operations)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return (*_basin.radius_figure(result), *_basin.fan_figure(result))

    def reading(self, result: Result) -> str:
        centre, cutoff = result.estimate("centre_loss"), result.estimate("cutoff_loss")
        if not centre.value < cutoff.value:
            return (
                f"The loss of {quantity(centre)} is not below the cutoff of {quantity(cutoff)}: there is no basin here."
            )
        mean, median, largest = (result.estimate(f"{name}_radius") for name in ("mean", "median", "max"))
        spread = f"median {written(median.value, digits=2)}, farthest {written(largest.value, digits=2)}"
        text = (
            f"Along {mean.n:,} random rays the loss rises from {quantity(centre)} to {quantity(cutoff)} once the "
            f"filters have moved by {quantity(mean, 2)} of their norms on average ({spread})."
        )
        capped = result.estimate("capped_fraction").value
        if capped == 1:
            return (
                f"Along {mean.n:,} random rays the loss stays below {quantity(cutoff)} up to the cap of {self.cap:g}."
            )
        return text
