"""How few weights could memorise these training examples: the network of 2n + d weights, built in closed form.

Definition: theorem 1 of the paper. With classes, C outputs share direction and thresholds: n + d + nC weights. The
    errors are the largest ``|c(x_i) - y_i|`` over examples and outputs, y one-hot, evaluated in float64 and in float32.
    Beside it stands the network of one output, exactly 2n + d weights, that answers with the number of the class.
Unit: 1.
Source: Zhang et al. (2017), theorem 1.
Cost: n^3 / 3 operations, no gradient.
Says little when: one asks what a trained network would do: that weights exist does not say that training finds them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from vallis.core.errors import DataError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.rng import Rng
from vallis.core.types import Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements._sources import ZHANG
from vallis.measurements.interpolation._examples import Examples, read
from vallis.numerics.duplicates import distinct
from vallis.numerics.memorizing_network import ACCURATE, Memorization, largest_error, memorize_each


@dataclass(frozen=True, kw_only=True)
class FiniteSampleExpressivity:
    """The construction on the solution's training examples.

    Attributes:
        split: what is memorised; copies with equal targets are left out.
        test_split: on which the constructed network is tried; left out when the task has none.
        max_examples: of a larger split a random part of this size is memorised.
        num_directions: of so many random directions, the one is taken that holds the examples furthest apart.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = (ZHANG,)

    split: str = "train"
    test_split: str = "test"
    max_examples: int = 1000
    num_directions: int = 32

    @classmethod
    def tiny(cls) -> FiniteSampleExpressivity:
        """The cheapest settings, for tests."""
        return cls(max_examples=20, num_directions=4)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solution: Solution = subject
        names = {"train": self.split, "test": self.test_split}
        found = read(solution, names, self.max_examples, rng.child("examples"))
        if isinstance(found, NotApplicable):
            return found
        train = found["train"]
        try:
            kept = distinct(train.x, train.values)
            x, y = train.x[kept], train.values[kept]
            network, single_output = memorize_each(
                x, (y, _numbers(train, y)), rng=rng.child("directions"), num_directions=self.num_directions
            )
        except DataError as error:
            return NotApplicable(note=Note(code="not_distinct", text=f"Nothing can memorise these examples: {error}."))
        single = largest_error(copy.deepcopy(network.module()).float(), x.float(), y)
        values = _values(network, single_output, single, solution.num_parameters)
        if "test" in found:
            values["test_error"] = _test_error(network, found["test"])
        return Result(values=values, notes=(*train.notes, *_notes(network, y, single)))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        bars = [result.estimate(key).value for key in ("num_parameters", "own_num_parameters")]
        mark = Mark(kind="bar", x=["needed to memorise", "of the measured network"], y=bars)
        figure = Figure(
            name="finite_sample_expressivity",
            title="Weights that suffice to memorise the examples",
            x=Axis(label="network", scale="category"),
            y=Axis(label="number of weights", scale="log"),
            marks=(mark,),
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        weights, error = result.estimate("num_parameters"), result.estimate("largest_error")
        own, single = result.estimate("own_num_parameters"), result.estimate("largest_error_float32")
        return (
            f"A network of {weights.value:,.0f} weights, {weights.value / own.value:.2g} times as many as the measured "
            f"one has, takes the targets of all {error.n:,} examples with an error of at most {error.value:.2g} "
            f"({single.value:.2g} in float32)."
        )


def _numbers(train: Examples, y: torch.Tensor) -> torch.Tensor:
    """``(n,)`` the numbers of the classes; other targets ``(n, C)`` as they are."""
    return y.argmax(1).double() if train.loss.kind == "categorical" else y


def _values(network: Memorization, single_output: Memorization, single: float, own: int) -> dict[str, Any]:
    n = len(network.places)
    built = "theorem 1, the best of several random directions"

    def estimate(value: float, method: str, exact: bool = False) -> Estimate:
        return Estimate(value=float(value), stderr=0.0 if exact else None, n=n, method=method)

    return {
        "num_parameters": estimate(network.num_parameters, "counted", exact=True),
        "own_num_parameters": estimate(own, "counted", exact=True),
        "largest_error": estimate(network.residual, f"{built}, evaluated in float64"),
        "largest_error_float32": estimate(single, f"{built}, evaluated in float32"),
        "one_output_num_parameters": estimate(single_output.num_parameters, "counted", exact=True),
        "one_output_largest_error": estimate(
            single_output.residual, f"{built}; of the number of the class, evaluated in float64"
        ),
        "condition": estimate(network.condition, "LAPACK's estimate of the condition number in the 1-norm"),
        "smallest_eigenvalue": estimate(
            network.smallest_eigenvalue, "the smallest distance of a place and its threshold"
        ),
    }


def _test_error(network: Memorization, test: Examples) -> Estimate:
    with torch.no_grad():
        answers = torch.cat([network.module()(some) for some in test.x.split(1000)])
    found = test.error(answers)
    # Another direction would answer otherwise: the error bar over examples is not all there is.
    return Estimate(value=found.value, stderr=None, n=found.n, method="one direction, all test examples")


def _notes(network: Memorization, y: torch.Tensor, single: float) -> tuple[Note, ...]:
    notes = []
    largest = float(y.abs().max())
    if not network.residual <= ACCURATE * (1 + largest):
        text = (
            f"The network misses its targets by up to {network.residual:.2g}, so it does not memorise them: two "
            f"examples nearly coincide, or there are too many for float64 (condition number {network.condition:.1e})."
        )
        notes.append(Note(code="not_memorised", text=text))
    if single < 0.5:
        return tuple(notes)
    text = (
        f"In float32 the answers are wrong by up to {single:.2g}: with a condition number of {network.condition:.1e}, "
        "the weights of this network only mean something in float64."
    )
    return (*notes, Note(code="float32_fails", text=text))
