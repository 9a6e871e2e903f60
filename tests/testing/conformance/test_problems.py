from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from vallis.core.data import Arrays
from vallis.core.rng import Rng
from vallis.core.types import Batch, Task
from vallis.testing.awkward.binary_perceptron import SignPatterns
from vallis.testing.awkward.graphs import CyclesAndPaths
from vallis.testing.conformance import problems
from vallis.testing.conformance.parts import Broken
from vallis.testing.toys.problems import Bars, Blobs, LinearRegression, QuadraticBowl

GOOD = (Blobs(angles=(0.0, 1.0)), Bars(), LinearRegression(), QuadraticBowl(), SignPatterns(), CyclesAndPaths())


@pytest.mark.parametrize("check", problems.CHECKS)
@pytest.mark.parametrize("part", GOOD)
def test_the_toys_conform(part: Any, check: str) -> None:
    problems.CHECKS[check](part)


@dataclass(frozen=True, kw_only=True)
class Sabotaged:
    """Blobs with one thing wrong."""

    version: ClassVar[int] = 1
    how: str

    def build(self, rng: Rng) -> tuple[Task, ...]:
        (task,) = Blobs().build(rng)
        return getattr(self, self.how)(task)  # type: ignore[no-any-return]

    def random(self, task: Task) -> tuple[Task, ...]:
        return self.with_train(task, x=torch.randn(48, 2))

    def twice(self, task: Task) -> tuple[Task, ...]:
        return (task, replace(task, name="again"))

    def namesakes(self, task: Task) -> tuple[Task, ...]:
        return (*Blobs(angles=(0.0,)).build(Rng(0)), task)

    def nan(self, task: Task) -> tuple[Task, ...]:
        return self.with_train(task, x=torch.full((48, 2), torch.nan))

    def no_train(self, task: Task) -> tuple[Task, ...]:
        return (replace(task, splits={"test": task.splits["test"]}),)

    def empty(self, task: Task) -> tuple[Task, ...]:
        none = Arrays(x=torch.zeros(0, 2), y=torch.zeros(0, dtype=torch.int64), index=torch.zeros(0).long())
        return (replace(task, splits={**task.splits, "test": none}),)

    def restless(self, task: Task) -> tuple[Task, ...]:
        return (replace(task, splits={"train": Restless(task.splits["train"])}),)

    def float_index(self, task: Task) -> tuple[Task, ...]:
        return self.with_train(task, index=torch.arange(48.0))

    def none(self, task: Task) -> tuple[Task, ...]:
        return ()

    def with_train(self, task: Task, **changes: Any) -> tuple[Task, ...]:
        return (replace(task, splits={"train": replace(task.splits["train"], **changes)}),)  # type: ignore[type-var]


class Restless:
    """Gives its examples in another order at every pass."""

    def __init__(self, data: Any) -> None:
        self.data, self.passes = data, 0

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Batch]:
        self.passes += 1
        yield self.data.take(torch.arange(len(self)).roll(self.passes))

    def take(self, positions: torch.Tensor) -> Batch:
        found: Batch = self.data.take(positions)
        return found

    def fingerprint(self) -> str:
        return "always the same"


@pytest.mark.parametrize(
    ("how", "check"),
    [
        ("random", "same_stream_same_examples"),
        ("twice", "examples_have_identities"),
        ("float_index", "examples_have_identities"),
        ("namesakes", "splits_are_sound"),
        ("no_train", "splits_are_sound"),
        ("empty", "splits_are_sound"),
        ("restless", "splits_are_sound"),
        ("none", "splits_are_sound"),
        ("nan", "values_are_finite"),
    ],
)
def test_what_is_wrong_is_noticed(how: str, check: str) -> None:
    with pytest.raises(Broken):
        problems.CHECKS[check](Sabotaged(how=how))


def test_what_is_no_problem_is_noticed() -> None:
    with pytest.raises(Broken):
        problems.is_a_problem(Rng(0))
