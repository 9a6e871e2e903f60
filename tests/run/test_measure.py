from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from tests.run.test_isolation import state
from tests.run.toy import Broken, Careless, Count, Curved, Distance, Norm, Stop, Way, job
from vallis.core.errors import SettingsError, UnknownPart, UsageError
from vallis.core.protocols import Measurement
from vallis.core.rng import Rng
from vallis.core.types import Failed, NotApplicable, Outcome, Result, Solution
from vallis.measurements.curvature.hessian_trajectory import HessianTrajectory
from vallis.run.measure import measure, measure_all, measure_many
from vallis.run.train import train

PATH = train(job(snapshots=(0, 2)))
LAST = PATH[-1]


def test_a_measurement_of_each_kind() -> None:
    assert isinstance(measure(LAST, Norm()), Result)
    assert isinstance(measure(PATH, Way()), Result)
    assert isinstance(measure((PATH[0], LAST), Distance()), Result)


def test_directions_are_the_same_for_all_seeds() -> None:
    other = train(job(seed=1))[-1]
    found = []
    for solution in (LAST, other):
        outcome = measure(solution, Norm())
        assert isinstance(outcome, Result)
        weights = torch.from_numpy(outcome.array("weights").data)
        found.append((weights, outcome.estimate("along").value))
    (first, along), (second, across) = found
    generator = Rng(0).child("measure", "tests.run.toy:Norm").torch()
    direction = torch.randn(len(first), generator=generator, dtype=torch.float64)
    assert along == float(first @ direction)
    assert across == float(second @ direction)


def test_a_missing_trait_is_not_applicable() -> None:
    outcome = measure(LAST, Curved())
    assert isinstance(outcome, NotApplicable)
    assert outcome.note.code == "needs_trait"
    assert "binary" in outcome.note.text
    assert "smooth" not in outcome.note.text


@pytest.mark.parametrize(
    ("subject", "part"),
    [(PATH, Norm()), (LAST, Way()), (LAST, Distance()), (PATH, Distance()), (LAST, Count()), (None, Norm())],
)
def test_the_wrong_subject_is_a_sentence(subject: object, part: object) -> None:
    with pytest.raises(UsageError, match=r"takes .* came: give it that"):
        measure(subject, part)  # type: ignore[arg-type]
    ((_, outcome),) = measure_all(subject, [part])  # type: ignore[list-item]
    assert isinstance(outcome, NotApplicable)
    assert outcome.note.code == f"needs_{part.takes}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", [Way(), HessianTrajectory()])
def test_an_empty_path_is_said_to_be_one(part: Measurement) -> None:
    outcome = measure([], part)
    assert isinstance(outcome, NotApplicable)
    assert outcome.note.code == "no_solutions"
    assert "takes a sequence of solutions, and an empty one came" in outcome.note.text


def test_names_and_settings() -> None:
    with pytest.raises(UnknownPart, match="no measurement"):
        measure(LAST, "hesian_spectrm")
    with pytest.raises(SettingsError, match="settings go with a name"):
        measure(LAST, Norm(), order=1.0)


def test_alone_it_raises_and_among_others_it_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        measure(LAST, Broken())
    seen: list[Outcome] = []
    found = measure_all(LAST, [Broken(), Norm()], on_result=lambda part, outcome: seen.append(outcome))
    assert [outcome for _, outcome in found] == seen
    assert seen[0] == Failed(error="ZeroDivisionError", message="nothing can be divided by this")
    assert isinstance(seen[1], Result)


def test_what_is_no_outcome_fails() -> None:
    class Silent(Norm):
        def measure(self, subject: object, rng: object) -> Outcome:  # type: ignore[override]
            return None  # type: ignore[return-value]

    ((_, outcome),) = measure_all(LAST, [Silent()])
    assert isinstance(outcome, Failed)
    assert "must return an Outcome" in outcome.message


def test_ctrl_c_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        measure_all(LAST, [Stop()])


SEEDS = [train(job(seed=seed))[-1] for seed in range(4)]


class Crowd(Norm):
    """Looks at many at once, and tells how many those were."""

    looks: ClassVar[list[int]] = []
    ends: ClassVar[BaseException | None] = None
    forgets: ClassVar[bool] = False

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        self.looks.append(len(subjects))
        if self.ends is not None:
            raise self.ends
        return [self.measure(each, rng) for each in subjects[self.forgets :]]


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    monkeypatch.setattr(Crowd, "looks", [])
    return Crowd()


def alike(one: Sequence[Outcome], other: Sequence[Outcome]) -> bool:
    return [numbers(each) for each in one] == [numbers(each) for each in other]


def numbers(outcome: Outcome) -> list[float]:
    assert isinstance(outcome, Result)
    return [*outcome.array("weights").data.tolist(), outcome.estimate("along").value]


def test_many_are_looked_at_together_in_their_order(crowd: Crowd) -> None:
    assert alike(measure_many(SEEDS, crowd), [measure(each, crowd) for each in SEEDS])
    assert crowd.looks == [4]
    assert alike(measure_many(iter(SEEDS[:1]), crowd), [measure(SEEDS[0], crowd)])
    assert measure_many([], crowd) == []
    assert crowd.looks == [4]


def test_what_looks_at_one_at_a_time_is_asked_so() -> None:
    assert alike(measure_many(SEEDS, Norm()), [measure(each, Norm()) for each in SEEDS])
    ways = measure_many([PATH, PATH], Way())
    assert [type(each) for each in ways] == [Result, Result]


@pytest.mark.parametrize("trouble", [ValueError("no"), SystemExit(3)])
def test_whoever_fails_among_many_leaves_the_others(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    monkeypatch.setattr(Crowd, "ends", trouble)
    right = Norm.measure

    def measured(self: Norm, subject: Solution, rng: Rng) -> Outcome:
        if subject is SEEDS[2]:
            raise ZeroDivisionError("this one")
        return right(self, subject, rng)

    monkeypatch.setattr(Norm, "measure", measured)
    found = measure_many(SEEDS, crowd)
    assert found[2] == Failed(error="ZeroDivisionError", message="this one")
    assert all(isinstance(found[place], Result) for place in (0, 1, 3))


def test_who_forgets_one_is_asked_again_for_each(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crowd, "forgets", True)
    assert alike(measure_many(SEEDS, crowd), [measure(each, crowd) for each in SEEDS])


def test_those_that_lack_a_trait_are_left_out(crowd: Crowd) -> None:
    class Smooth(Crowd):
        needs: ClassVar[frozenset[str]] = frozenset({"smooth"})

    rough = replace(SEEDS[1], net=replace(SEEDS[1].net, traits=frozenset()))
    found = measure_many([SEEDS[0], rough, SEEDS[2]], Smooth())
    assert [type(each) for each in found] == [Result, NotApplicable, Result]
    assert crowd.looks == [2]


def test_names_settings_and_subjects_of_many_are_checked_as_those_of_one() -> None:
    with pytest.raises(UnknownPart, match="no measurement"):
        measure_many(SEEDS, "hesian_spectrm")
    with pytest.raises(SettingsError, match="settings go with a name"):
        measure_many(SEEDS, Norm(), order=1.0)
    with pytest.raises(UsageError, match=r"takes a solution, .* came: give it that"):
        measure_many([*SEEDS, PATH], Norm())
    found = measure_many(SEEDS, "generalization_gap")
    assert [type(each) for each in found] == [Result] * 4


def test_ctrl_c_amid_many_passes_through(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crowd, "ends", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        measure_many(SEEDS, crowd)


def test_global_state_is_put_back() -> None:
    before = state()
    assert isinstance(measure(LAST, Careless()), Result)
    measure_many(SEEDS, Careless())
    assert state() == before
