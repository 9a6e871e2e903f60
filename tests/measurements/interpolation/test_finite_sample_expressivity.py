"""Theorem 1 on the data of a solution: sizes by counting, errors by evaluating."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.measurements.contract import RNG, measured
from tests.measurements.interpolation.subjects import IMAGES, on
from tests.numerics.solutions import classes, held, random, tokens
from vallis.core.losses import SquaredError
from vallis.core.types import NotApplicable
from vallis.measurements.interpolation.finite_sample_expressivity import FiniteSampleExpressivity
from vallis.problems.corrupted import Corrupted


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("labels", [0.0, 1.0])
def test_images_are_memorised(name: str, labels: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """B6, with the true labels and with random ones: theorem 1 does not look at them."""
    solution = on(Corrupted(base=IMAGES[name], labels=labels), monkeypatch)
    found = measured(FiniteSampleExpressivity(), solution)
    n, d = len(solution.task.splits["train"]), solution.params["1.weight"].shape[1]
    assert found.estimate("num_parameters").value == n + d + 10 * n
    assert found.estimate("one_output_num_parameters").value == 2 * n + d
    assert 0 < found.estimate("one_output_largest_error").value <= 1e-6 * (1 + 9)
    assert found.estimate("own_num_parameters").value == 10 * d + 10
    assert found.estimate("largest_error").value <= 1e-6 * 2
    assert found.estimate("largest_error_float32").value > 0.5
    assert [note.code for note in found.notes] == ["float32_fails"]
    if labels == 1.0:
        assert 0.8 < found.estimate("test_error").value < 1.0


def test_few_examples_are_no_trouble_and_copies_count_once() -> None:
    x, y = random(12, 3), classes(12)
    solution = held(nn.Linear(3, 3), torch.cat([x, x[:2]]), torch.cat([y, y[:2]]))
    found = measured(FiniteSampleExpressivity(), solution)
    assert found.estimate("num_parameters").value == 12 + 3 + 36
    assert found.estimate("one_output_num_parameters").value == 2 * 12 + 3
    assert found.notes == () and "test_error" not in found.values
    part = measured(FiniteSampleExpressivity(max_examples=5), solution)
    assert part.estimate("num_parameters").value == 5 + 3 + 15
    assert [note.code for note in part.notes] == ["part_of_the_data"]


def test_what_nothing_memorises() -> None:
    torn = held(nn.Linear(3, 3), torch.ones(2, 3), torch.tensor([0, 1]))
    outcome = FiniteSampleExpressivity().measure(torn, RNG)
    assert isinstance(outcome, NotApplicable) and "different targets" in outcome.note.text
    assert isinstance(FiniteSampleExpressivity().measure(tokens(), RNG), NotApplicable)


def test_numbers_have_one_network() -> None:
    solution = held(nn.Linear(3, 1), random(9, 3), random(9, 1, seed=1), SquaredError())
    found = measured(FiniteSampleExpressivity(), solution)
    for name in ("", "one_output_"):
        assert found.estimate(f"{name}num_parameters").value == 2 * 9 + 3
        assert found.estimate(f"{name}largest_error").value < 1e-9


def test_examples_that_nearly_coincide_are_not_memorised_and_it_says_so() -> None:
    """Two of them 1e-14 apart, in the middle of the others: the weights are that large, and few digits are left."""
    x = random(20, 3).double()
    x[3] = x.mean(0)
    x[7] = x[3] + 1e-14
    y = classes(20)
    y[3], y[7] = 0, 1
    found = measured(FiniteSampleExpressivity(), held(nn.Linear(3, 3).double(), x, y))
    assert found.estimate("largest_error").value > 1e-5
    assert "not_memorised" in [note.code for note in found.notes]
    apart = measured(FiniteSampleExpressivity(), held(nn.Linear(3, 3).double(), random(20, 3).double(), y))
    assert "not_memorised" not in [note.code for note in apart.notes]
