"""The best on the way, and what is left of it without hindsight, against a loop by hand and against pure luck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, must_be_shown, must_be_the_same
from tests.numerics.solutions import regression
from vallis.core.rng import Rng
from vallis.core.types import NotApplicable, Result, Solution
from vallis.measurements.fit.best_test_accuracy import BestTestAccuracy


def path(num_moments: int, size: int = 300, classes: int = 3, seed: int = 0) -> list[Solution]:
    """A linear network whose weights are drawn anew at every moment."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 4, generator=generator)
    y = torch.randint(classes, (size,), generator=generator)
    first = Solution.of(nn.Linear(4, classes), nn.CrossEntropyLoss(), train=(x[:10], y[:10]), test=(x, y))
    return [
        replace(
            first,
            step=5 * k,
            params={name: torch.randn(held.shape, generator=generator) for name, held in first.params.items()},
        )
        for k in range(num_moments)
    ]


def measured(moments: list[Solution], rng: Rng = RNG) -> Result:
    part = BestTestAccuracy()
    found = part.measure(moments, rng)
    assert isinstance(found, Result)
    must_be_the_same(found, part.measure(moments, rng))
    must_be_shown(part, found)
    return found


def by_hand(moments: list[Solution]) -> list[float]:
    shares = []
    for moment in moments:
        batch = moment.task.splits["test"].take(torch.arange(300))
        scores = batch.x @ moment.params["weight"].T + moment.params["bias"]
        shares.append(float((scores.argmax(1) == batch.y).double().mean()))
    return shares


def test_the_running_best_by_hand() -> None:
    moments = path(7)
    found, shares = measured(moments), by_hand(moments)
    np.testing.assert_allclose(found.array("test_accuracy").data, shares)
    np.testing.assert_allclose(found.array("running_best_accuracy").data, [max(shares[: k + 1]) for k in range(7)])
    assert found.estimate("best_test_accuracy").value == pytest.approx(max(shares))
    assert found.estimate("best_gain").value == pytest.approx(max(shares) - shares[-1])
    assert found.estimate("best_step").value == 5 * shares.index(max(shares))
    end = found.estimate("final_test_accuracy")
    assert (end.value, end.n) == (pytest.approx(shares[-1]), 300)
    assert end.stderr == pytest.approx((shares[-1] * (1 - shares[-1]) / 299) ** 0.5)
    assert [note.code for note in found.notes] == ["chosen_on_test"]
    assert found.estimate("best_test_accuracy").stderr is None, "nobody knows how far it was luck"


def test_luck_raises_the_best_and_not_the_chosen() -> None:
    """Labels are random, so no step is better than another: the best of 30 lies above chance, the chosen does not."""
    best, chosen, covered = [], [], 0
    for seed in range(30):
        found = measured(path(30, classes=2, seed=seed), Rng(seed))
        best.append(found.estimate("best_test_accuracy").value)
        one = found.estimate("chosen_accuracy")
        chosen.append(one.value)
        covered += abs(one.value - 0.5) < 1.96 * (one.stderr or 0)
    assert min(best) > 0.52 and np.mean(best) > 0.54
    assert abs(np.mean(chosen) - 0.5) < 3 * 0.5 / (30 * 300) ** 0.5
    assert covered >= 25  # binomial, 30 at 0.95: five or more beyond have a chance of 1.6 %


def test_one_snapshot_chooses_nothing() -> None:
    found = measured(path(1))
    assert [note.code for note in found.notes] == ["one_moment"]
    assert found.estimate("best_gain").value == found.estimate("chosen_gain").value == 0
    assert "at no snapshot was it better" in BestTestAccuracy().reading(found)


def test_where_there_is_no_accuracy_it_says_why() -> None:
    (moment,) = path(1)
    without = BestTestAccuracy(test_split="unseen").measure([moment], RNG)
    assert isinstance(without, NotApplicable) and without.note.code == "no_test_split"
    numbers = BestTestAccuracy(test_split="train").measure([regression()], RNG)
    assert isinstance(numbers, NotApplicable) and numbers.note.code == "not_classification"
