"""A loss whose infimum is not attained: gradient descent on it goes to infinity, and the loss falls for ever.

Definition: gradient descent on (a e^b - 1)^2 + penalty a^2 / 2, the smallest case of an exponential unit with a
    penalty. Its infimum is 0, at a = 0 and b infinite. With a following b at once, gradient flow at time
    t = steps x learning_rate is b = log(2 penalty t) / 2 with an objective of 1 / (4 t). The curvature along a grows
    as 4 penalty t: descent in steps follows only while learning_rate x 4 penalty t is below 2.
Unit: 1.
Source: Sun et al. (2020), sections II and III; Liang, Sun and Srikant (2019); the asymptotes are derived here.
Cost: num_steps evaluations of four exponentials.
Says little when: num_steps x learning_rate is not much larger than one: the asymptotes have not been reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Outcome, Result, Source
from vallis.numerics.paths_to_infinity import descend_toy, growth


@dataclass(frozen=True, kw_only=True)
class DecreasingPath:
    """Gradient descent to infinity.

    Attributes:
        penalty: of a.
        learning_rate: of the descent.
        num_steps: of it.
        a: where a begins.
        b: where b begins.
    """

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="The global landscape of neural networks: an overview",
            authors="R. Sun, D. Li, S. Liang, T. Ding, R. Srikant",
            year=2020,
            url="https://arxiv.org/abs/2007.01429",
        ),
    )

    penalty: float = 0.05
    learning_rate: float = 0.005
    num_steps: int = 200_000
    a: float = 0.5
    b: float = 0.0

    def __post_init__(self) -> None:
        if not (self.penalty > 0 and self.learning_rate > 0 and self.num_steps >= 10):
            raise SettingsError(
                "a penalty and a learning rate above 0 and ten steps were required, "
                f"{self.penalty}, {self.learning_rate} and {self.num_steps} came: raise them"
            )
        if 2 * self.penalty * self.learning_rate**2 * self.num_steps >= 1:
            raise SettingsError(
                "steps that stay stable were required, 2 penalty learning_rate^2 num_steps below 1, "
                f"{2 * self.penalty * self.learning_rate**2 * self.num_steps:.3g} came: lower learning_rate"
            )

    @classmethod
    def tiny(cls) -> DecreasingPath:
        """The cheapest settings, for tests."""
        return cls(num_steps=1000, learning_rate=0.05, penalty=0.1)

    def compute(self, rng: Rng) -> Outcome:
        found = descend_toy(
            num_steps=self.num_steps, learning_rate=self.learning_rate, penalty=self.penalty, a=self.a, b=self.b
        )
        norms = np.hypot(found.a, found.b)
        late = growth(found.steps, norms, found.objective, found.gradients)
        time = found.steps * self.learning_rate
        method = f"over the last decade of {self.num_steps} steps"
        coords = {"step": found.steps}
        values: dict[str, Estimate | Array] = {
            "end_objective": Estimate(
                value=float(found.objective[-1]), stderr=0.0, method="after the last step, exact"
            ),
            "end_a": Estimate(value=float(found.a[-1]), stderr=0.0, method="after the last step, exact"),
            "end_b": Estimate(value=float(found.b[-1]), stderr=0.0, method="after the last step, exact"),
            "objective_over_limit": Estimate(value=float(4 * time[-1] * found.objective[-1]), method="1 in the limit"),
            "norm_growth": Estimate(value=late.norm, method=method),
            "objective_growth": Estimate(value=late.loss, method=f"{method}; -1 in the limit"),
            "to_infinity": Estimate(value=float(late.to_infinity), method="1 where norm grows and objective falls"),
            "objectives": Array(data=found.objective, dims=("step",), coords=coords),
            "limits": Array(data=1 / (4 * time), dims=("step",), coords=coords),
            "exponents": Array(data=found.b, dims=("step",), coords=coords),
        }
        return Result(values=values)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        held, limit = result.array("objectives"), result.array("limits")
        marks = (
            Mark(kind="line", x=held.coords["step"], y=held.data, label="objective"),
            Mark(kind="line", x=held.coords["step"], y=limit.data, label="1 / (4 t)"),
        )
        step, value = Axis(label="step", scale="log"), Axis(label="objective", scale="log")
        title = "A decreasing path to infinity"
        return (Figure(name="decreasing_path", title=title, x=step, y=value, marks=marks),)

    def reading(self, result: Result) -> str:
        end, b = result.estimate("end_objective").value, result.estimate("end_b").value
        said = (
            f"After {self.num_steps:,} steps the objective is {end:.3g} and still falls, with b at {b:.3g} and growing"
        )
        return f"{said}: the infimum of 0 is at infinity."
