"""Whether a training arrives, or goes to infinity: weights that grow for ever while the loss keeps falling.

Definition: over the last decade of steps (from a tenth of the last step on) the slopes of log |theta|, log L and
    log |gradient| with log t. A decreasing path to infinity has a norm that grows while loss and gradient fall: slopes
    above 0.01 and below -0.1.
Unit: 1 for slopes (powers of the number of steps); weight for norms.
Source: Sun et al. (2020), section II (decreasing paths to infinity); of separable data the norm grows with log t
    (Soudry et al. 2018), a slope of 1 / log t.
Cost: a gradient and a pass over the split for each moment.
Says little when: fewer than three moments lie in the last decade, or weight decay pulls back later than it was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Source
from vallis.measurements import _stages
from vallis.measurements.landscape._survey import SURVEY
from vallis.numerics.paths_to_infinity import growth
from vallis.numerics.surface import surface


@dataclass(frozen=True, kw_only=True)
class PathToInfinity:
    """The growth of a training's weights.

    Attributes:
        split: over which examples the loss is taken.
        max_examples: of more examples a random part of this size is taken; None takes all.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "trajectory"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (SURVEY,)

    split: str = "train"
    max_examples: int | None = None

    @classmethod
    def tiny(cls) -> PathToInfinity:
        """The cheapest settings, for tests."""
        return cls()

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solutions, notes = _stages.last_of(subject)
        rows, unit = [], "1"
        for each in track(solutions, "moments", len(solutions)):
            ground = surface(each, self.split, max_examples=self.max_examples, rng=rng)
            diverged = ground.not_finite()
            if diverged is not None:
                return diverged
            objective, unit = ground.objective, ground.unit
            norm = float(objective.vector(objective.origin).double().norm())
            rows.append((float(each.step), norm, objective.value(), float(objective.gradient().double().norm())))
        steps, norms, losses, gradients = np.array(rows).T
        found = growth(steps, norms, losses, gradients)
        if not np.isfinite([found.norm, found.loss, found.gradient]).all():
            text = "There are no slopes: two moments above step 0 in the last decade, of a loss above 0, were required."
            return NotApplicable(note=Note(code="too_few_moments", text=text))
        late = int((steps >= steps.max() / 10).sum())
        method = f"least squares over the {late} moments of the last decade"
        coords = {"step": steps}
        values: dict[str, Estimate | Array] = {
            "norm_growth": Estimate(value=found.norm, n=late, method=method),
            "loss_growth": Estimate(value=found.loss, n=late, method=method),
            "gradient_growth": Estimate(value=found.gradient, n=late, method=method),
            "to_infinity": Estimate(
                value=float(found.to_infinity), n=late, method="1 where norm grows, the others fall"
            ),
            "norms": Array(data=norms, dims=("step",), unit="weight", coords=coords),
            "losses": Array(data=losses, dims=("step",), unit=unit, coords=coords),
            "gradients": Array(data=gradients, dims=("step",), unit=f"{unit}/weight", coords=coords),
        }
        return Result(values=values, notes=notes)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        marks = []
        for key, label in (("norms", "norm of the weights"), ("losses", "loss"), ("gradients", "norm of the gradient")):
            held = result.array(key)
            known = held.coords["step"] > 0
            marks.append(Mark(kind="line", x=held.coords["step"][known], y=held.data[known], label=label))
        step, value = Axis(label="step", scale="log"), Axis(label="value", scale="log")
        title = "Whether the training arrives"
        return (Figure(name="path_to_infinity", title=title, x=step, y=value, marks=tuple(marks)),)

    def reading(self, result: Result) -> str:
        norm, loss = result.estimate("norm_growth").value, result.estimate("loss_growth").value
        said = f"Over the last decade of steps the norm of the weights goes as their power {norm:.2g} and the loss as "
        said += f"their power {loss:.2g}"
        if result.estimate("to_infinity").value:
            return f"{said}, while the gradient falls: a decreasing path to infinity, as far as it was followed."
        return f"{said}: not a decreasing path to infinity."
