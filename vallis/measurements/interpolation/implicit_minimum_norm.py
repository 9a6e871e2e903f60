"""Of all linear models that fit, which one does training find: the one of least norm, or another?

Definition: a linear model without bias is fitted to N examples of d > N inputs by the squared error. The differences
    are ``|W - W*| / |W*|``, with W* the solution of least norm from a singular value decomposition; norms are relative
    to that of W*; "outside" is the share of the length of W outside of the span of the examples.
Unit: 1.
Source: Zhang et al. (2017), section 5.
Cost: some ten thousand steps on a few examples, no gradient of the network.
Says little when: the examples are nearly dependent (see condition): descent then takes more steps than it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from vallis.core.errors import DataError, SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.rng import Rng
from vallis.core.types import Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements._sources import ZHANG
from vallis.measurements.interpolation._examples import read
from vallis.numerics.minimum_norm import Descent, LinearSystem, compare, linear_system
from vallis.problems._checks import check_number

TRAININGS = {
    "gradient_descent": "gradient descent from 0",
    "stochastic": "stochastic gradient descent from 0",
    "momentum": "with momentum from 0",
    "random_start": "with momentum from random weights",
    "weight_decay": "with weight decay from 0",
    "adam": "Adam from 0",
}


@dataclass(frozen=True, kw_only=True)
class ImplicitMinimumNorm:
    """Linear models of the solution's training examples, trained in six ways.

    Attributes:
        split: of which examples are taken.
        num_examples: how many, at most a quarter of the number of inputs.
        weight_decay: of the training with weight decay, in units of the curvature of half the mean squared error.
        std_start: of the Gaussian weights that one training starts from.
        max_steps: the most steps of each.
        tolerance: a training ends within this share of its limit.
    """

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (ZHANG,)

    split: str = "train"
    num_examples: int = 10
    weight_decay: float = 0.01
    std_start: float = 1.0
    max_steps: int = 50_000
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        check_number("implicit_minimum_norm.num_examples", self.num_examples)
        check_number("implicit_minimum_norm.max_steps", self.max_steps)
        for name in ("weight_decay", "std_start", "tolerance"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be positive, {getattr(self, name)} came: raise it")

    @classmethod
    def tiny(cls) -> ImplicitMinimumNorm:
        """The cheapest settings, for tests."""
        return cls(num_examples=3, max_steps=100)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solution: Solution = subject
        found = read(solution, {"train": self.split}, None, rng)
        if isinstance(found, NotApplicable):
            return found
        x, y = found["train"].x, found["train"].values
        number = max(1, min(self.num_examples, x[0].numel() // 4, len(x)))
        few = torch.randperm(len(x), generator=rng.child("examples").torch())[:number].sort().values
        try:
            system = linear_system(x[few], y[few])
        except DataError as error:
            return NotApplicable(note=Note(code="not_underdetermined", text=f"Many models must fit: {error}."))
        ends = compare(
            system,
            decay=self.weight_decay,
            std_start=self.std_start,
            max_steps=self.max_steps,
            tolerance=self.tolerance,
            rng=rng.child("trainings"),
        )
        return Result(values=_values(system, ends, self.weight_decay), notes=_notes(ends))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        norms = [result.estimate(f"{name}_norm_ratio").value for name in TRAININGS]
        outside = [result.estimate(f"{name}_outside").value for name in TRAININGS]
        marks = (
            Mark(kind="bar", x=list(TRAININGS.values()), y=norms, label="norm, relative to the least"),
            Mark(kind="bar", x=list(TRAININGS.values()), y=outside, label="share outside of the span of the examples"),
        )
        figure = Figure(
            name="implicit_minimum_norm",
            title="Which linear model training finds",
            x=Axis(label="training", scale="category"),
            y=Axis(label="norm relative to the least; share outside"),
            marks=marks,
            caption="Weight decay falls short of 1 because it does not quite fit the examples.",
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        descent, random, adam = (
            result.estimate(key)
            for key in ("gradient_descent_difference", "random_start_norm_ratio", "adam_norm_ratio")
        )
        return (
            f"Gradient descent from 0 ends at the linear model of least norm, up to {descent.value:.1e} of its norm; "
            f"from random weights it ends at one of {random.value:.3g} times the norm, and Adam at one of "
            f"{adam.value:.3g} times (N = {descent.n} examples)."
        )


def _values(system: LinearSystem, ends: Mapping[str, Descent], decay: float) -> dict[str, Any]:
    least, n = float(system.solution.norm()), len(system.x)
    values = {"condition": Estimate(value=system.condition, n=n, method="of X X', from singular values")}
    for name, end in ends.items():
        numbers = {
            "difference": end.relative_difference(system.solution),
            "norm_ratio": float(end.weights.norm()) / least,
            "outside": end.outside(system),
            "residual": end.residual,
        }
        for key, value in numbers.items():
            values[f"{name}_{key}"] = Estimate(value=value, n=n, method=f"{TRAININGS[name]}, {end.steps} steps")
        values[f"{name}_steps"] = Estimate(value=float(end.steps), n=n, unit="steps", method=TRAININGS[name])
    limits = {"random_start": system.limit_from(ends["random_start"].start), "weight_decay": system.ridge(decay)}
    for name, limit in limits.items():
        away = ends[name].relative_difference(limit)
        values[f"{name}_limit_difference"] = Estimate(value=away, n=n, method="from its limit in closed form")
    return values


def _notes(ends: Mapping[str, Descent]) -> tuple[Note, ...]:
    late = [f"{TRAININGS[name]} after {end.steps} steps" for name, end in ends.items() if not end.converged]
    if not late:
        return ()
    text = f"Not within the tolerance of a limit: {', '.join(late)}; raise max_steps or take fewer examples."
    return (Note(code="not_converged", text=text),)
