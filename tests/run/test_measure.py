from __future__ import annotations

import pytest
import torch

from tests.run.test_isolation import state
from tests.run.toy import Broken, Careless, Count, Curved, Distance, Norm, Stop, Way, job
from vallis.core.errors import SettingsError, UnknownPart, UsageError
from vallis.core.protocols import Measurement
from vallis.core.rng import Rng
from vallis.core.types import Failed, NotApplicable, Outcome, Result
from vallis.measurements.curvature.hessian_trajectory import HessianTrajectory
from vallis.run.measure import measure, measure_all
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


def test_global_state_is_put_back() -> None:
    before = state()
    assert isinstance(measure(LAST, Careless()), Result)
    assert state() == before
