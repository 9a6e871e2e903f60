"""Eval mode, precision, and what is said when they cannot be had."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.numerics.solutions import batch_norm, built, classes, held, mlp, random, regression
from vallis.core.corrected_losses import ForwardCorrected
from vallis.core.errors import ModelError, SettingsError, UnknownPart
from vallis.core.objective import Objective
from vallis.core.robust_losses import RobustLoss
from vallis.core.types import Solution
from vallis.numerics import surface as module_under_test
from vallis.numerics.surface import Budget, in_eval_mode, surface


class Stubborn(nn.Module):
    """Has a constant that is no buffer, so it cannot compute in another type."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.mixing = torch.eye(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) @ self.mixing


def stubborn() -> nn.Module:
    return built(Stubborn)


def test_a_template_in_training_mode_is_evaluated_in_eval_mode_and_left_in_its_own() -> None:
    solution, training = batch_norm(), batch_norm(training=True)
    before = {name: value.clone() for name, value in training.buffers.items()}
    assert surface(training).objective.value() == Objective(solution).value()
    assert all(part.training for part in training.net.module.modules())
    assert all(torch.equal(training.buffers[name], value) for name, value in before.items())
    assert Objective(training).value() != Objective(solution).value()  # so it does matter


def test_a_template_in_eval_mode_is_not_copied() -> None:
    solution = batch_norm()
    assert in_eval_mode(solution) is solution


@pytest.mark.parametrize(
    ("precision", "dtype"), [(None, torch.float32), ("float32", torch.float32), ("float64", torch.float64)]
)
def test_precision_is_what_was_asked_for(precision: module_under_test.Precision | None, dtype: torch.dtype) -> None:
    found = surface(mlp(), "train", precision)
    assert (found.objective.dtype, found.notes) == (dtype, ())
    assert abs(found.objective.value() - Objective(mlp(double=True)).value()) < 1e-6


def test_auto_takes_float64_for_small_networks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert surface(mlp(), "train", "auto").objective.dtype == torch.float64
    monkeypatch.setattr(module_under_test, "CHEAP_SIZE", 60)
    assert surface(mlp(), "train", "auto").objective.dtype == torch.float32
    assert surface(mlp(double=True), "train", "auto").objective.dtype == torch.float64


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised(half: torch.dtype) -> None:
    solution = held(built(lambda: nn.Linear(2, 3)).to(half), random(5, 2).to(half), classes(5))
    assert surface(solution).objective.dtype == torch.float32
    assert surface(solution, "train", "auto").objective.dtype == torch.float64


def test_a_network_that_cannot_is_taken_as_it_is_with_a_note() -> None:
    solution = held(stubborn(), random(5, 2), classes(5))
    found = surface(solution, "train", "auto")
    assert found.objective.dtype == torch.float32
    assert [note.code for note in found.notes] == ["own_precision"]
    with pytest.raises(ModelError, match="computes in float64 was required"):
        surface(solution, "train", "float64")


def test_a_diverged_network_has_no_surface() -> None:
    module = built(lambda: nn.Linear(2, 3))
    solution = held(module, random(5, 2), classes(5))
    assert surface(solution).not_finite() is None
    solution.params["weight"][0, 0] = torch.nan
    said = surface(solution).not_finite()
    assert said is not None
    assert said.note.code == "not_finite"
    assert "nan" in said.note.text


def test_only_log_likelihoods_are_in_nats() -> None:
    assert (surface(mlp()).unit, surface(regression()).unit) == ("nats", "1")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UnknownPart, match="train"):
        surface(mlp(), "tset")


def test_a_part_of_the_examples_stands_for_the_whole_and_says_so() -> None:
    x, y = torch.arange(50.0)[:, None], torch.zeros(50, dtype=torch.int64)
    solution = Solution.of(torch.nn.Linear(1, 2), torch.nn.CrossEntropyLoss(), train=(x, y), batch_size=7)
    found = surface(solution, max_examples=20)
    seen = torch.cat([batch.x[:, 0] for batch in found.objective.batches()])
    assert len(seen) == len(seen.unique()) == 20
    assert [note.code for note in found.notes] == ["part_of_the_data"]
    assert "20 of 50" in found.notes[0].text
    again = torch.cat([batch.x[:, 0] for batch in surface(solution, max_examples=20).objective.batches()])
    assert torch.equal(seen, again)
    assert not surface(solution, max_examples=50).notes
    with pytest.raises(SettingsError):
        surface(solution, max_examples=0)


def test_a_part_of_batches_is_made_of_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [(torch.full((5, 1), float(place)), torch.zeros(5, dtype=torch.int64)) for place in range(10)]
    for keep in (None, 0):  # kept in memory, and read anew at every pass
        if keep is not None:
            monkeypatch.setattr("vallis.core.own_data.KEEP_BYTES", keep)
        solution = Solution.of(torch.nn.Linear(1, 2), torch.nn.CrossEntropyLoss(), train=batches)
        objective = surface(solution, max_examples=12).objective
        places = [batch.x[:, 0].unique().tolist() for batch in objective.batches()]
        assert len(places) == 3
        assert all(len(place) == 1 for place in places)
        assert objective.total_weight == 15


def test_a_budget_pays_for_so_many_examples_and_for_a_hundred_at_least() -> None:
    x, y = torch.randn(300, 4), torch.zeros(300, dtype=torch.int64)
    solution = Solution.of(torch.nn.Linear(4, 3), torch.nn.CrossEntropyLoss(), train=(x, y))
    one = 6 * 4 * 3 * 10  # ten gradients of one example

    def seen(most: float | None, max_examples: int | None = None) -> tuple[int, str]:
        found = surface(solution, max_examples=max_examples, budget=Budget(gradients=10, max_operations=most))
        return len(found.objective.data), " ".join(note.text for note in found.notes)

    num, text = seen(180.5 * one)
    assert num == 180
    assert "180 of 300" in text and "max_operations" in text
    assert seen(180.5 * one, max_examples=150)[0] == 150 and "max_operations" not in seen(180.5 * one, 150)[1]
    assert seen(1.0)[0] == 100
    assert seen(1e9) == (300, "") == seen(None)


@pytest.mark.parametrize("most", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_makes_no_sense_is_refused(most: float) -> None:
    with pytest.raises(SettingsError, match="max_operations"):
        Budget(gradients=1, max_operations=most)


@pytest.mark.parametrize(
    ("loss", "unit"),
    [
        (nn.CrossEntropyLoss(), "nats"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])), "nats"),
        (lambda scores, y: F.nll_loss(F.log_softmax(scores, 1), y), "nats"),
        (ForwardCorrected(transition=torch.eye(3).tolist()), "nats"),
        (RobustLoss(name="bootstrap"), "nats"),
        (RobustLoss(name="unhinged"), "1"),
        (nn.MultiMarginLoss(), "1"),
        (lambda scores, y: (1 - scores.gather(1, y[:, None])).clamp(min=0).mean(), "1"),
    ],
)
def test_margin_losses_of_classes_are_no_likelihoods(loss: Any, unit: str) -> None:
    x, y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    solution = Solution.of(nn.Linear(4, 3), loss, train=(x, y))
    assert (surface(solution).unit, solution.task.loss.kind) == (unit, "categorical")


def test_ignored_targets_of_a_robust_loss_do_not_count() -> None:
    x, y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    module, loss = nn.Linear(4, 3), RobustLoss(name="savage")
    some = Solution.of(module, loss, train=(x, torch.where(torch.arange(12) < 5, -100, y)))
    rest = Solution.of(module, loss, train=(x[5:], y[5:]))
    assert surface(some).objective.value() == pytest.approx(surface(rest).objective.value())
