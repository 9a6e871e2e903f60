"""A measurement of a pair: how high the loss rises on the straight line between two solutions.

Definition: the most by which the train loss lies above the straight line between its values at the two ends.
Unit: nats.
Source: Frankle et al. 2020, Linear mode connectivity and the lottery ticket hypothesis, section 2.
Cost: one pass over the data at each point of the line.
Says little when: the two differ by a permutation of units, which the straight line does not undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Outcome, Result, Solution, Source


@dataclass(frozen=True, kw_only=True)
class LossBarrier:
    """The barrier between two solutions.

    Attributes:
        num_points: on the line, both ends among them.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "pair"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset()
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = ()

    num_points: int = 11

    def measure(self, subject: tuple[Solution, Solution], rng: Rng) -> Outcome:
        one, other = (Objective(solution) for solution in subject)
        along = np.linspace(0.0, 1.0, self.num_points)
        ends = one.vector(one.origin), one.vector(other.origin)
        losses = np.array([one.value(one.point((1 - t) * ends[0] + t * ends[1])) for t in along.tolist()])
        straight = (1 - along) * losses[0] + along * losses[-1]
        method = f"exact at {self.num_points} points of the line"
        barrier = Estimate(value=float((losses - straight).max()), stderr=0.0, unit="nats", method=method)
        line = Array(data=losses, dims=("along",), unit="nats", coords={"along": along})
        return Result(values={"barrier": barrier, "loss": line})

    def figures(self, result: Result) -> tuple[Figure, ...]:
        line = result.array("loss")
        mark = Mark(kind="line", x=line.coords["along"], y=line.data)
        axes = Axis(label="share of the way"), Axis(label="train loss (nats)")
        return (Figure(name="loss_barrier", title="Between two solutions", x=axes[0], y=axes[1], marks=(mark,)),)

    def reading(self, result: Result) -> str:
        return f"On the straight line between the two, the loss rises by {result.estimate('barrier').value:.3g} nats."
