"""One exponential unit beside a network: it removes bad local minima, and may open a way to infinity.

Definition: gradient descent on the mean of max(0, 1 - y (f + a exp(w'x + b)))^3 plus penalty a^2 / 2 over the network f
    and a, w, b, from where the network stands; y is -1 or 1. At every local minimum a = 0 and f is globally optimal; a
    descent that gets neither there goes to infinity.
Unit: the hinge's own unit (1) for losses; weight for the norm of (w, b).
Source: Sun et al. (2020), section III; Liang, Sun, Lee and Srikant (2018), theorem 1.
Cost: num_steps gradients of the whole split.
Says little when: the descent has arrived nowhere yet: neither a low loss nor growing weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.functional import call
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Source
from vallis.measurements.landscape._survey import SURVEY
from vallis.numerics.class_maps import scores_around
from vallis.numerics.paths_to_infinity import descend_with_neuron, growth
from vallis.numerics.surface import surface


@dataclass(frozen=True, kw_only=True)
class ExponentialNeuron:
    """Descent of a two-class network with an exponential unit beside it.

    Attributes:
        penalty: of the square of its coefficient.
        learning_rate: of gradient descent.
        num_steps: gradients.
        dead: begin with hidden biases so low that no ReLU fires: the bad start that the unit has to help out of.
        split: over which examples.
        max_examples: of more examples a random part of this size is taken.
        seed: where the unit begins.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        SURVEY,
        Source(
            title="Adding one neuron can eliminate all bad local minima",
            authors="S. Liang, R. Sun, J. D. Lee, R. Srikant",
            year=2018,
            url="https://arxiv.org/abs/1805.08671",
        ),
    )

    penalty: float = 0.1
    learning_rate: float = 0.02
    num_steps: int = 2000
    dead: bool = False
    split: str = "train"
    max_examples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.penalty > 0 and self.learning_rate > 0) or self.num_steps < 10 or self.max_examples < 1:
            raise SettingsError(
                "a penalty and a learning rate above 0 and ten steps were required, "
                f"{self.penalty}, {self.learning_rate} and {self.num_steps} came: raise them"
            )

    @classmethod
    def tiny(cls) -> ExponentialNeuron:
        """The cheapest settings, for tests."""
        return cls(num_steps=20)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        ground = surface(subject, self.split, "auto", self.max_examples, rng)
        diverged = ground.not_finite()
        if diverged is not None:
            return diverged
        objective = ground.objective
        around = scores_around(objective)
        batches = list(objective.batches())
        classes = torch.cat([torch.as_tensor(batch.y).reshape(len(batch), -1)[:, 0] for batch in batches])
        two = around is not None and self._num_classes(objective) == 2 and len(torch.unique(classes)) == 2
        if not two:
            return NotApplicable(note=Note(code="not_two_classes", text="Two classes were required, others came."))
        x = torch.cat([batch.x for batch in batches])
        found = descend_with_neuron(
            lambda point: self._margin(objective, point, x),
            self._start(objective),
            x.flatten(1),
            torch.where(classes > 0.5, 1.0, -1.0).to(objective.dtype),
            penalty=self.penalty,
            learning_rate=self.learning_rate,
            num_steps=self.num_steps,
            rng=Rng(self.seed).child("exponential_neuron"),
        )
        if len(found.steps) < 2 or not np.isfinite(found.objectives).all():
            text = "The descent has left the finite numbers: lower learning_rate."
            return NotApplicable(note=Note(code="not_finite", text=text))
        late = growth(found.steps, found.norms, found.objectives, found.gradients)
        coords, last = {"step": found.steps}, f"after {int(found.steps[-1])} steps"
        values: dict[str, Estimate | Array] = {
            "coefficient": Estimate(value=abs(float(found.coefficients[-1])), method=last),
            "largest_coefficient": Estimate(value=float(np.abs(found.coefficients).max()), method="on the way"),
            "own_loss": Estimate(value=float(found.own_losses[-1]), n=len(x), method=last),
            "start_loss": Estimate(value=float(found.own_losses[0]), n=len(x), method="after the first step"),
            "norm_growth": Estimate(value=late.norm, method="power of the steps, over the last decade"),
            "coefficients": Array(data=found.coefficients, dims=("step",), coords=coords),
            "norms": Array(data=found.norms, dims=("step",), unit="weight", coords=coords),
            "own_losses": Array(data=found.own_losses, dims=("step",), coords=coords),
        }
        return Result(values=values, notes=ground.notes)

    def figures(self, result: Result) -> tuple[Figure, ...]:
        shown = {"coefficients": "|a|", "norms": "norm of (w, b)", "own_losses": "loss of the network alone"}
        marks = [
            Mark(kind="line", x=result.array(key).coords["step"], y=np.abs(result.array(key).data), label=label)
            for key, label in shown.items()
        ]
        step, value = Axis(label="step", scale="log"), Axis(label="value", scale="log")
        title = "A network with an exponential unit beside it"
        return (Figure(name="exponential_neuron", title=title, x=step, y=value, marks=tuple(marks)),)

    def reading(self, result: Result) -> str:
        a, own = result.estimate("coefficient").value, result.estimate("own_loss").value
        grown = result.estimate("norm_growth").value
        said = f"The unit's coefficient ends at {a:.2g} and the network's own loss at {own:.2g}"
        if own > 0.5 * result.estimate("start_loss").value and grown > 0.01:
            return f"{said} while (w, b) still grows: the descent is on its way to infinity."
        return f"{said}."

    def _num_classes(self, objective: Objective) -> int:
        around = scores_around(objective)
        batch = next(objective.batches())
        with torch.no_grad():
            return 0 if around is None else int(around(batch.x[:1]).shape[1])

    def _margin(self, objective: Objective, point: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        outputs = call(objective.module, dict(zip(objective.names, point, strict=True)), objective.buffers, x)
        found = objective.loss.scores(outputs)
        assert found is not None
        return found.reshape(-1) if objective.loss.kind == "binary" else found[:, 1] - found[:, 0]

    def _start(self, objective: Objective) -> list[torch.Tensor]:
        """Where the network stands; dead, with the biases of all layers but the last far below zero."""
        point = [value.clone() for value in objective.origin]
        biases = [place for place, name in enumerate(objective.names) if name.endswith("bias")][:-1]
        for place in biases if self.dead else ():
            point[place] -= 100.0
        return point
