"""Whether a way leads out of the basin that a network stands in, to the bottom, without the loss rising on it.

Definition: the hidden weights are moved by `shake` of their norms in a random direction (first leg), then the last
    layer goes straight to weights that fit all examples (second leg). The barrier is the highest loss on the way less
    that at its start. With at least N - 1 units before the last layer a way exists whose barrier is as low as one
    likes; with fewer nothing is certified.
Unit: nats (the loss's own unit where it is no log-likelihood); the norm of weights for the price.
Source: Sun et al. (2020), section III; Li, Ding and Sun (2018).
Cost: num_points passes a leg and shake, and one least-squares problem of N examples.
Says little when: not certified; and of training at any time: the last layer at the end is of a size nobody would want.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.errors import ModelError, SettingsError, UsageError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements.landscape._survey import SURVEY
from vallis.numerics.basin_exits import leave
from vallis.numerics.surface import Surface, surface


@dataclass(frozen=True, kw_only=True)
class BasinExit:
    """A way of two legs from a network to the bottom.

    Attributes:
        shakes: how far the hidden weights move, as shares of their norms, falling.
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
        num_points: on each leg.
        seed: of the direction in which hidden weights move.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        SURVEY,
        Source(
            title="On the benefit of width for neural networks: disappearance of bad basins",
            authors="D. Li, T. Ding, R. Sun",
            year=2018,
            url="https://arxiv.org/abs/1812.11039",
        ),
    )

    shakes: tuple[float, ...] = (1e-1, 1e-2, 1e-3)
    split: str = "train"
    max_examples: int | None = None
    num_points: int = 41
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shakes", tuple(self.shakes))  # a list, when it comes from JSON
        falling = list(self.shakes) == sorted(set(self.shakes), reverse=True)
        if not self.shakes or not falling or not min(self.shakes) > 0 or self.num_points < 2:
            raise SettingsError(
                f"falling shakes above 0 and two points a leg were required, {self.shakes} and {self.num_points} came: "
                "give such as (0.1, 0.01)"
            )

    @classmethod
    def tiny(cls) -> BasinExit:
        """The cheapest settings, for tests."""
        return cls(shakes=(1e-2,), num_points=5)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = _exact(subject, self.split, self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        stream = Rng(self.seed).child("basin_exit")
        try:
            ways = [leave(ground.objective, shake=s, rng=stream, num_points=self.num_points) for s in self.shakes]
        except (ModelError, UsageError) as trouble:
            return NotApplicable(note=Note(code="no_last_layer", text=f"There is no way of two legs: {trouble}."))
        last, num = ways[-1], ways[-1].num_examples
        coords = {"shake": np.array(self.shakes)}
        method = f"highest of {2 * self.num_points} points, at a shake of {last.shake:g}"
        values: dict[str, Estimate | Array] = {
            "barriers": Array(
                data=np.array([w.barrier for w in ways]), dims=("shake",), unit=ground.unit, coords=coords
            ),
            "end_losses": Array(data=np.array([w.end for w in ways]), dims=("shake",), unit=ground.unit, coords=coords),
            "prices": Array(data=np.array([w.price for w in ways]), dims=("shake",), unit="weight", coords=coords),
            "barrier": Estimate(value=last.barrier, stderr=0.0, n=num, unit=ground.unit, method=method),
            "start_loss": Estimate(value=float(last.first[0]), stderr=0.0, n=num, unit=ground.unit, method="exact"),
            "end_loss": Estimate(value=last.end, stderr=0.0, n=num, unit=ground.unit, method="at the end of the way"),
            "rank_fraction": Estimate(value=last.rank / num, n=num, method="rank of the features over examples"),
            "certified": Estimate(value=float(all(w.certified for w in ways)), n=num, method="1 where the rank is N"),
            "monotone": Estimate(value=float(all(w.monotone for w in ways)), method="1 where no second leg rises"),
            "losses": Array(data=np.concatenate([last.first, last.second[1:]]), dims=("point",), unit=ground.unit),
        }
        text = (
            f"The features of the last layer have a rank of {last.rank} with {num} examples, so it cannot fit just any "
            "targets and nothing is certified: use a wider last layer or fewer examples (max_examples)."
        )
        notes = () if last.certified else (Note(code="not_certified", text=text),)
        if last.certified and not last.end < last.first[0]:
            text = f"The way ends at {last.end:.3g}, no lower than it begins, so it says nothing of the basin."
            notes = (Note(code="ends_no_lower", text=text),)
        return Result(values=values, notes=(*ground.notes, *notes))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        held = result.array("losses")
        place = np.linspace(0, 2, len(held.data))
        mark = Mark(kind="line", x=place, y=held.data)
        way = Axis(label="way: hidden weights until 1, then the last layer until 2")
        loss = Axis(label=f"loss ({held.unit})")
        return (Figure(name="basin_exit", title="A way out of the basin", x=way, y=loss, marks=(mark,)),)

    def reading(self, result: Result) -> str:
        barrier, end = result.estimate("barrier"), result.estimate("end_loss").value
        if not result.estimate("certified").value:
            share = result.estimate("rank_fraction").value
            return f"Nothing is certified: the last layer can fit a share of {share:.2g} of the examples at most."
        start = result.estimate("start_loss").value
        said = f"From a loss of {start:.3g} a way leads to {end:.2g} on which it rises by at most"
        said += f" {max(barrier.value, 0):.2g}"
        return f"{said}: this basin is not bad." if end < start else f"{said}: it ends no lower, and says nothing."


def _exact(solution: Solution, split: str, max_examples: int | None, rng: Rng) -> Surface:
    """In float64, whatever the size: in single precision rounding passes for rank. Where that cannot be, as it is."""
    try:
        return surface(solution, split, "float64", max_examples, rng)
    except ModelError:
        return surface(solution, split, "auto", max_examples, rng)
