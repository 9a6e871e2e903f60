from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from vallis.core.figures import Figure
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Estimate, Outcome, Result, Solution, Source
from vallis.numerics.population import together
from vallis.testing.awkward.forgetting_counts import ForgettingCounts
from vallis.testing.awkward.kernel_alignment import KernelAlignment
from vallis.testing.awkward.loss_barrier import LossBarrier
from vallis.testing.conformance import measurements, subjects
from vallis.testing.conformance.parts import Broken, NotTested


@pytest.mark.parametrize("check", measurements.CHECKS)
@pytest.mark.parametrize("part", [KernelAlignment(num_examples=8), LossBarrier(num_points=3)])
def test_measurements_of_paths_and_pairs_conform(part: Any, check: str) -> None:
    try:
        measurements.CHECKS[check](part)
    except NotTested as reason:
        pytest.skip(str(reason))


def test_watchers_are_left_to_their_own_checks() -> None:
    for check in measurements.CHECKS.values():
        with pytest.raises(NotTested):
            check(ForgettingCounts())


@dataclass(frozen=True, kw_only=True)
class Question:
    """The train loss, and what each of those below does wrong with it."""

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    sources: ClassVar[tuple[Source, ...]] = ()

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        return self.result(Objective(subject).value())

    def result(self, value: float, stderr: float | None = 0.0) -> Result:
        estimate = Estimate(value=value, stderr=stderr, unit="nats", method="exact")
        return Result(values={"loss": estimate})

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return ()

    def reading(self, result: Result) -> str:
        return "It is so."


class Ragged(Question):
    """The mean of batch means."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        objective = Objective(subject)
        with torch.no_grad():
            means = [float(term.loss(objective.origin)) for term in objective.terms()]
        return self.result(sum(means) / len(means))


class Rash(Question):
    """Scatters more than it says."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        return self.result(Objective(subject).value() + float(torch.randn((), generator=rng.torch())), 0.01)


class Exactly(Rash):
    """Calls a random number exact."""

    def result(self, value: float, stderr: float | None = 0.0) -> Result:
        return super().result(value, 0.0)


class Norm(Question):
    """Declares invariances that a sum of squares does not have."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        return self.result(float(sum((value**2).sum() for value in subject.params.values())))


class Undeclared(Question):
    """Does not say that the loss stays."""

    invariances: ClassVar[frozenset[str]] = frozenset()


class Restless(Question):
    """Moves the weights that it looks at."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        next(iter(subject.params.values())).mul_(1.001)
        return super().measure(subject, rng)


class Training(Question):
    """Leaves the net in train mode."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        subject.net.module.train()
        return super().measure(subject, rng)


class Gambling(Question):
    """Draws from the global generator."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        return self.result(float(torch.rand(())))


class Unlabelled(Question):
    """A number without a method."""

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        return Result(values={"loss": Estimate(value=1.0)})


class Odd(Question):
    """Asks for a trait that no net has."""

    needs: ClassVar[frozenset[str]] = frozenset({"quantum"})


class Both(Question):
    """Two values of different invariances, and a count that nothing is said of."""

    invariances: ClassVar[Mapping[str, frozenset[str]]] = {  # type: ignore[assignment]
        "loss": frozenset({"layer_rescaling", "unit_permutation"}),
        "norm": frozenset({"unit_permutation"}),
    }

    def measure(self, subject: Solution, rng: Rng) -> Outcome:
        norm = Estimate(value=float(sum((v**2).sum() for v in subject.params.values())), method="exact", unit="w^2")
        count = Estimate(value=float(subject.num_parameters), method="counted")
        return Result(values={**self.result(Objective(subject).value()).values, "norm": norm, "count": count})


class TooMuch(Both):
    """Says that the norm stays when layers are rescaled."""

    invariances: ClassVar[Mapping[str, frozenset[str]]] = {  # type: ignore[assignment]
        "loss": frozenset({"layer_rescaling", "unit_permutation"}),
        "norm": frozenset({"layer_rescaling", "unit_permutation"}),
    }


class TooLittle(Both):
    """Does not say that the loss stays when layers are rescaled, while another value changes."""

    invariances: ClassVar[Mapping[str, frozenset[str]]] = {  # type: ignore[assignment]
        "loss": frozenset({"unit_permutation"}),
        "norm": frozenset({"unit_permutation"}),
    }


class Missing(Both):
    """Declares an invariance of a value that it never finds."""

    invariances: ClassVar[Mapping[str, frozenset[str]]] = {  # type: ignore[assignment]
        "length": frozenset({"unit_permutation"})
    }


class Misspelt(Both):
    """Names a symmetry that there is not."""

    invariances: ClassVar[Mapping[str, frozenset[str]]] = {  # type: ignore[assignment]
        "loss": frozenset({"rotation"})
    }


def test_values_may_have_invariances_of_their_own() -> None:
    for check in measurements.CHECKS.values():
        if check not in (measurements.stages_do_not_mix, measurements.many_are_as_one):  # it takes one solution
            check(Both())


def test_a_good_measurement_passes() -> None:
    for check in measurements.CHECKS.values():
        try:
            check(Question())
        except NotTested:
            assert check in (
                measurements.undeclared_invariances_are_broken,
                measurements.stages_do_not_mix,
                measurements.many_are_as_one,
            )


class Crowd(Question):
    """Looks at many, one after the other."""

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        return [self.measure(each, rng) for each in subjects]


class Swapped(Crowd):
    """Says of each what it should say of the next."""

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        return super().measure_many([*subjects[1:], subjects[0]], rng)


class Short(Crowd):
    """Forgets the last."""

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        return super().measure_many(subjects[:-1], rng)


class Pushing(Crowd):
    """Moves the weights of the last that it looks at."""

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        found = super().measure_many(subjects, rng)
        next(iter(subjects[-1].params.values())).mul_(1.001)
        return found


def test_many_may_be_looked_at() -> None:
    measurements.many_are_as_one(Crowd())


def test_the_solutions_of_a_company_go_together() -> None:
    """Or that many are as one would show nothing."""
    for name, found in subjects.companies().items():
        groups = together([Objective(solution) for solution in found], 64)
        assert len(groups) == 1 and groups[0][1] is not None, name


class Mixing(KernelAlignment):
    """Goes through all stages of a training as if they were one way."""

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        return super().measure([replace(solution, stage="") for solution in subject], rng)


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (Ragged(), "batches_do_not_matter"),
        (Rash(), "error_bars_are_honest"),
        (Exactly(), "error_bars_are_honest"),
        (Norm(), "declared_invariances_hold"),
        (Undeclared(), "undeclared_invariances_are_broken"),
        (Restless(), "answers_are_sound"),
        (Training(), "answers_are_sound"),
        (Gambling(), "answers_are_sound"),
        (Gambling(), "same_stream_same_bits"),
        (Unlabelled(), "answers_are_sound"),
        (Odd(), "is_a_measurement"),
        (Misspelt(), "is_a_measurement"),
        (TooMuch(), "declared_invariances_hold"),
        (Missing(), "declared_invariances_hold"),
        (TooLittle(), "undeclared_invariances_are_broken"),
        (Mixing(num_examples=8), "stages_do_not_mix"),
        (Swapped(), "many_are_as_one"),
        (Short(), "many_are_as_one"),
        (Pushing(), "many_are_as_one"),
    ],
)
def test_what_is_wrong_is_noticed(part: Any, check: str) -> None:
    subjects.subjects.cache_clear()  # the saboteurs spoil the toys
    with pytest.raises(Broken):
        measurements.CHECKS[check](part)
    subjects.subjects.cache_clear()
    subjects.companies.cache_clear()


def test_a_noisy_value_may_be_invariant() -> None:
    """Random directions are drawn anew, so the value moves within its error bar, and that is no broken law."""

    class Honest(Rash):
        def result(self, value: float, stderr: float | None = 0.0) -> Result:
            return super().result(value, 1.0)

    measurements.declared_invariances_hold(Honest())
    measurements.error_bars_are_honest(Honest())
