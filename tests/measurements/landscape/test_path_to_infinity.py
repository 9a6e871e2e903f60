"""Paths to infinity: separable data have one, data with wrong labels have none."""

from __future__ import annotations

from tests.measurements.contract import RNG, must_be_shown, must_be_the_same
from tests.numerics.solutions import mlp
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result, Solution, Task
from vallis.measurements.landscape.path_to_infinity import PathToInfinity
from vallis.testing.toys.models import LinearModel
from vallis.testing.toys.problems import Blobs
from vallis.testing.toys.solutions import path

STEPS = (0, 10, 100, 200, 400, 700, 1000)


class Apart(Blobs):
    """Two clouds that a line through the origin tells apart; with `flipped`, some of their labels are wrong."""

    flipped = 0

    def build(self, rng: Rng) -> tuple[Task, ...]:
        (task,) = super().build(rng)
        task.splits["train"].y[: self.flipped] = 1 - task.splits["train"].y[: self.flipped]  # type: ignore[attr-defined]
        return (task,)


class Mixed(Apart):
    flipped = 6


def walked(problem: Blobs) -> tuple[Solution, ...]:
    return path(problem, LinearModel(), Rng(0), STEPS, rate=1.0)


def test_separable_data_send_the_weights_to_infinity() -> None:
    part = PathToInfinity()
    found = part.measure(walked(Apart(distance=6.0, double=True)), RNG)
    assert isinstance(found, Result)
    must_be_shown(part, found)
    must_be_the_same(found, part.measure(walked(Apart(distance=6.0, double=True)), RNG))
    assert found.estimate("to_infinity").value == 1.0
    assert found.estimate("loss_growth").value < -0.5
    assert found.array("norms").coords["step"].tolist() == list(STEPS)
    assert "path to infinity, as far" in part.reading(found)


def test_wrong_labels_hold_them_back() -> None:
    part = PathToInfinity()
    found = part.measure(walked(Mixed(distance=3.0, double=True)), RNG)
    assert isinstance(found, Result)
    assert found.estimate("to_infinity").value == 0.0
    assert abs(found.estimate("loss_growth").value) < 1e-3
    assert "not a decreasing path" in part.reading(found)


def test_one_moment_has_no_slope() -> None:
    outcome = PathToInfinity().measure((mlp(),), RNG)
    assert isinstance(outcome, NotApplicable) and outcome.note.code == "too_few_moments"
