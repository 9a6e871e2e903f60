"""Accuracies along a training, and the best of them, against a table made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.measurements.contract import RNG, must_be_shown, must_be_the_same
from tests.numerics.solutions import built, classes, held, random, regression
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.fit.early_stopping_potential import EarlyStoppingPotential

POTENTIAL = EarlyStoppingPotential()


def path(num_moments: int = 5) -> list[Solution]:
    """A linear classifier that walks off along a line."""
    first = held(
        built(lambda: nn.Linear(2, 3)), random(60, 2), classes(60), batch_size=7, test=(random(40, 2), classes(40))
    )
    away = {name: torch.randn(value.shape, generator=RNG.child(name).torch()) for name, value in first.params.items()}
    return [
        replace(first, step=3 * k, params={name: value + k * away[name] for name, value in first.params.items()})
        for k in range(num_moments)
    ]


def measured(moments: list[Solution]) -> Result:
    found = POTENTIAL.measure(moments, RNG)
    assert isinstance(found, Result), found
    must_be_the_same(found, POTENTIAL.measure(moments, RNG))
    must_be_shown(POTENTIAL, found)
    return found


def test_every_moment_and_the_best_so_far() -> None:
    moments = path()
    found = measured(moments)
    accuracies = []
    for place, moment in enumerate(moments):
        for split in ("train", "test"):
            data = moment.task.splits[split]
            scores = F.linear(data.x, moment.params["weight"], moment.params["bias"])  # type: ignore[attr-defined]
            loss = float(F.cross_entropy(scores, data.y))  # type: ignore[attr-defined]
            assert found.array(f"{split}_loss").data[place] == pytest.approx(loss, rel=1e-5)
            accuracy = float((scores.argmax(1) == data.y).double().mean())  # type: ignore[attr-defined]
            assert found.array(f"{split}_accuracy").data[place] == pytest.approx(accuracy)
        accuracies.append(accuracy)
    np.testing.assert_array_equal(found.array("test_accuracy").coords["step"], [0, 3, 6, 9, 12])
    best = [max(accuracies[: place + 1]) for place in range(5)]
    np.testing.assert_allclose(found.array("running_best").data, best)
    assert found.estimate("potential").value == pytest.approx(max(accuracies) - accuracies[-1])
    assert found.estimate("best_step").value == 3 * int(np.argmax(accuracies))
    assert found.estimate("best_test_accuracy").stderr is None, "nobody knows how far it was luck"
    last = found.estimate("last_test_accuracy")
    assert (last.value, last.n) == (pytest.approx(accuracies[-1]), 40)
    assert last.stderr == pytest.approx((accuracies[-1] * (1 - accuracies[-1]) / 39) ** 0.5)
    assert [note.code for note in found.notes] == ["chosen_on_test"]


def test_luck_raises_the_best_and_not_the_chosen() -> None:
    """Labels are random, so no moment is better than another: the best of 30 lies above chance, the chosen does not."""
    best, chosen, covered = [], [], 0
    for seed in range(30):
        found = POTENTIAL.measure(guesses(30, seed), Rng(seed))
        assert isinstance(found, Result)
        best.append(found.estimate("best_test_accuracy").value)
        one = found.estimate("chosen_accuracy")
        chosen.append(one.value)
        covered += abs(one.value - 0.5) < 1.96 * (one.stderr or 0)
    assert min(best) > 0.52
    assert np.mean(best) > 0.54
    assert abs(np.mean(chosen) - 0.5) < 3 * 0.5 / (30 * 300) ** 0.5
    assert covered >= 25  # binomial, 30 at 0.95: five or more beyond have a chance of 1.6 %


def guesses(num_moments: int, seed: int, size: int = 300) -> list[Solution]:
    """A linear network on two random classes, whose weights are drawn anew at every moment."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(size, 4, generator=generator), torch.randint(2, (size,), generator=generator)
    first = Solution.of(nn.Linear(4, 2), nn.CrossEntropyLoss(), train=(x[:10], y[:10]), test=(x, y))

    def drawn() -> dict[str, torch.Tensor]:
        return {name: torch.randn(value.shape, generator=generator) for name, value in first.params.items()}

    return [replace(first, step=5 * k, params=drawn()) for k in range(num_moments)]


def test_both_ways_to_end_are_read() -> None:
    moments = path()
    by_accuracy = sorted(moments, key=lambda one: float(measured([one]).estimate("last_test_accuracy").value))
    rising = [replace(moment, step=step) for step, moment in enumerate(by_accuracy)]
    falling = [replace(moment, step=step) for step, moment in enumerate(by_accuracy[::-1])]
    assert "would have gained nothing" in POTENTIAL.reading(measured(rising))
    assert measured(rising).estimate("potential").value == 0
    assert "is best at step 0 " in POTENTIAL.reading(measured(falling))
    assert measured(falling).estimate("potential").value > 0


def test_a_single_moment_says_so() -> None:
    assert [note.code for note in measured(path(1)).notes] == ["one_moment"]


def test_what_cannot_be_asked() -> None:
    (moment,) = path(1)
    alone = replace(moment, tasks=(replace(moment.task, splits={"train": moment.task.splits["train"]}),))
    for subject, code in (([alone], "no_test_split"), ([regression()], "no_test_split")):
        outcome = POTENTIAL.measure(subject, RNG)
        assert isinstance(outcome, NotApplicable)
        assert outcome.note.code == code
    numbers = regression()
    splits = {**numbers.task.splits, "test": numbers.task.splits["train"]}
    outcome = POTENTIAL.measure([replace(numbers, tasks=(replace(numbers.task, splits=splits),))], RNG)
    assert isinstance(outcome, NotApplicable)
    assert outcome.note.code == "nothing_classified"
