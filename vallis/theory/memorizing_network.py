"""How few weights memorise n examples, and how far floating numbers carry it: error and size against n and depth.

Definition: for n examples of a problem, the network of theorem 1 takes the numbers of their classes; its error is the
    largest ``|c(x_i) - y_i|``, evaluated in float64 and, with all of its numbers rounded, in float32. The variant of
    depth k has ``ceil(n / (k - 1))`` thresholds a layer.
Unit: classes (the targets are 0, 1, 2, ...).
Source: Zhang et al. (2017), theorem 1, lemma 1 and the corollary on depth.
Cost: n^3 / 3 for the largest n, no gradient.
Says little when: the examples are hardly told apart by one direction: the smallest gap decides, and no theorem says how
    small it is.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from vallis.core.errors import DataError, SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, Note, Outcome, Result, Source, Task
from vallis.numerics.duplicates import distinct
from vallis.numerics.memorizing_network import ACCURATE, Memorization, largest_error, memorize
from vallis.problems._choose import whole
from vallis.problems.digits import Digits


@dataclass(frozen=True, kw_only=True)
class MemorizingNetwork:
    """The construction on growing parts of a train split.

    Attributes:
        problem: whose first task gives the examples; its targets are one number each, or classes.
        sizes: n, rising; copies are left out, and of n beyond the number of examples there is no point on the curve.
        depths: of the networks that memorise the largest part, rising from 2.
        num_directions: see `vallis.numerics.memorizing_network.memorize`.
    """

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Understanding deep learning requires rethinking generalization",
            authors="C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals",
            year=2017,
            url="https://arxiv.org/abs/1611.03530",
        ),
    )

    problem: Problem = Digits()
    sizes: tuple[int, ...] = (50, 100, 200, 400, 800, 1300)
    depths: tuple[int, ...] = (2, 3, 5, 9, 17)
    num_directions: int = 32

    def __post_init__(self) -> None:
        for name, given, least in (("sizes", self.sizes, 1), ("depths", self.depths, 2)):
            if not given or list(given) != sorted(set(given)) or given[0] < least:
                raise SettingsError(
                    f"{name} must rise from at least {least} on, {given} came: give such as {(least, 2 * least)}"
                )

    @classmethod
    def tiny(cls) -> MemorizingNetwork:
        """The cheapest settings, for tests."""
        from vallis.testing.toys.problems import Blobs

        return cls(problem=Blobs(), sizes=(4, 8, 16), depths=(2, 3), num_directions=4)

    def compute(self, rng: Rng) -> Outcome:
        x, y = _examples(self.problem.build(rng.child("problem"))[0])
        order = torch.randperm(len(x), generator=rng.child("order").torch())
        x, y = x[order], y[order]
        sizes = [n for n in self.sizes if n <= len(x)] or [len(x)]
        found = [
            memorize(x[:n], y[:n], rng=rng.child("directions", n), num_directions=self.num_directions) for n in sizes
        ]
        single = [_error_in_float32(one, x[:n], y[:n]) for one, n in zip(found, sizes, strict=True)]
        n, last = sizes[-1], found[-1]
        depths = [depth for depth in self.depths if depth <= n + 1]
        deep = [last.deep_module(depth) for depth in depths]
        along, over = np.array(sizes, dtype=np.float64), np.array(depths, dtype=np.float64)
        values: dict[str, Estimate | Array] = {
            "error_float64": _curve([one.residual for one in found], "num_examples", along, "classes"),
            "error_float32": _curve(single, "num_examples", along, "classes"),
            "condition": _curve([one.condition for one in found], "num_examples", along, "1"),
            "smallest_eigenvalue": _curve([one.smallest_eigenvalue for one in found], "num_examples", along, "1"),
            "num_parameters": _curve([one.num_parameters for one in found], "num_examples", along, "1"),
            "width": _curve([module.width for module in deep], "depth", over, "1"),
            "num_parameters_by_depth": _curve([_count(module) for module in deep], "depth", over, "1"),
            "error_by_depth": _curve(
                [largest_error(module, x[:n], y[:n]) for module in deep], "depth", over, "classes"
            ),
        }
        for key, value, unit in (
            ("largest_error", last.residual, "classes"),
            ("largest_condition", last.condition, "1"),
        ):
            method = f"theorem 1 with {n} examples, the best of {self.num_directions} directions"
            values[key] = Estimate(value=value, stderr=None, n=n, unit=unit, method=method)
        return Result(values=values, notes=_limits(sizes, found, single, float(y.abs().max())))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        double, single = result.array("error_float64"), result.array("error_float32")
        sizes = double.coords["num_examples"]
        marks = [
            # An error of 0 has no place on an axis of logarithms.
            Mark(kind="line", x=sizes, y=np.maximum(curve.data, 1e-17), label=label)
            for curve, label in ((double, "float64"), (single, "float32"))
        ]
        error = Figure(
            name="memorizing_error",
            title="What rounding leaves of a network that memorises",
            x=Axis(label="number of examples n", scale="log"),
            y=Axis(label="largest error on an example (classes)", scale="log"),
            marks=tuple(marks),
            caption="Above one half, the nearest class is no longer the right one.",
        )
        width = result.array("width")
        shape = Figure(
            name="memorizing_width",
            title="Deeper networks memorise the same examples with fewer units a layer",
            x=Axis(label="depth (layers of weights)", scale="log"),
            y=Axis(label="width (most units of a layer)", scale="log"),
            marks=(Mark(kind="line", x=width.coords["depth"], y=width.data),),
        )
        return error, shape

    def reading(self, result: Result) -> str:
        error = result.array("error_float64")
        weights = int(result.array("num_parameters").data[-1])
        n = int(error.coords["num_examples"][-1])
        single = result.array("error_float32").data[-1]
        return (
            f"A ReLU network of {weights:,} weights takes the values of all {n:,} examples with an error of at most "
            f"{error.data[-1]:.2g} in float64, and of {single:.2g} in float32."
        )


def _examples(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """The different inputs of the train split ``(N, d)`` and one number for each ``(N,)``, float64."""
    held = whole(task.splits["train"])
    if not isinstance(held.x, torch.Tensor) or not isinstance(held.y, torch.Tensor) or held.y.numel() != len(held):
        raise DataError("inputs in one tensor with one number each were required, others came: choose another problem")
    x, y = held.x.flatten(1).double(), held.y.reshape(-1).double()
    kept = distinct(x, y)
    return x[kept], y[kept]


def _error_in_float32(found: Memorization, x: torch.Tensor, y: torch.Tensor) -> float:
    return largest_error(copy.deepcopy(found.module()).float(), x.float(), y)


def _count(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _curve(
    data: list[float] | list[int], dim: str, coords: np.ndarray[tuple[int], np.dtype[np.float64]], unit: str
) -> Array:
    return Array(data=np.array(data, dtype=np.float64), dims=(dim,), unit=unit, coords={dim: coords})


def _limits(sizes: list[int], found: list[Memorization], single: list[float], largest: float) -> tuple[Note, ...]:
    """The first n at which the answers are no longer the targets."""
    notes = []
    for n, one in zip(sizes, found, strict=True):
        if one.residual > ACCURATE * (1 + largest):
            text = (
                f"From n = {n} on the error in float64 exceeds {ACCURATE:g} (1 + max |y|): it was {one.residual:.2g}."
            )
            notes.append(Note(code="float64_is_inaccurate", text=text))
            break
    for n, error in zip(sizes, single, strict=True):
        if not error < 0.5:
            text = (
                f"From n = {n} on the error in float32 is {error:.2g}, so that the nearest class is not always right."
            )
            notes.append(Note(code="float32_fails", text=text))
            break
    return tuple(notes)
