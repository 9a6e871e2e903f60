"""Losses, accuracies and their gaps against arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from tests.measurements.contract import measured
from tests.numerics.solutions import AWKWARD, batch_norm, built, classes, held, random, tokens
from vallis.core.losses import CrossEntropy, SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss
from vallis.core.types import Solution
from vallis.measurements.fit.generalization_gap import GeneralizationGap
from vallis.numerics.surface import in_eval_mode

GAP = GeneralizationGap()


def classifier(batch_size: int = 5, num_train: int = 23, num_test: int = 11) -> Solution:
    module = built(lambda: nn.Linear(2, 3))
    test = random(num_test, 2, seed=7), classes(num_test, seed=8)
    return held(module, random(num_train, 2), classes(num_train), batch_size=batch_size, test=test)


def by_hand(solution: Solution, split: str) -> tuple[np.ndarray, np.ndarray]:
    data = solution.task.splits[split]
    with torch.no_grad():
        scores = solution.net.module(data.x)  # type: ignore[attr-defined]
    losses = F.cross_entropy(scores, data.y, reduction="none").double().numpy()  # type: ignore[attr-defined]
    return losses, (scores.argmax(1) == data.y).double().numpy()  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch_size", [1, 5, 23])
def test_means_and_error_bars_of_both_splits(batch_size: int) -> None:
    solution = classifier(batch_size)
    found = measured(GAP, solution)
    for split in ("train", "test"):
        losses, right = by_hand(solution, split)
        for key, each in (("loss", losses), ("accuracy", right)):
            estimate = found.estimate(f"{split}_{key}")
            assert estimate.value == pytest.approx(each.mean(), rel=1e-6)
            assert estimate.stderr == pytest.approx(stats.sem(each), rel=1e-6)
            assert estimate.n == len(each)
    assert found.estimate("train_loss").unit == "nats"
    assert found.notes == ()


def test_gaps_are_positive_when_the_test_goes_worse() -> None:
    solution = classifier()
    found = measured(GAP, solution)
    (train_losses, train_right), (test_losses, test_right) = (by_hand(solution, split) for split in ("train", "test"))
    loss, accuracy = found.estimate("loss_gap"), found.estimate("accuracy_gap")
    assert loss.value == pytest.approx(test_losses.mean() - train_losses.mean())
    assert accuracy.value == pytest.approx(train_right.mean() - test_right.mean())
    assert loss.stderr == pytest.approx(np.hypot(stats.sem(train_losses), stats.sem(test_losses)), rel=1e-5)


@pytest.mark.parametrize("name", AWKWARD)
def test_the_train_loss_is_the_objective(name: str) -> None:
    solution = AWKWARD[name]()
    found = measured(GAP, solution)
    assert found.estimate("train_loss").value == Objective(in_eval_mode(solution)).value()


def test_without_a_test_split_only_the_training_is_measured() -> None:
    found = measured(GAP, batch_norm())
    assert [note.code for note in found.notes] == ["no_test_split"]
    assert set(found.values) == {"train_loss", "train_accuracy", "train_chance", "steps"}
    assert "always naming the commonest class" in GAP.reading(found)


def test_other_splits_by_name() -> None:
    solution = classifier()
    swapped = measured(GeneralizationGap(split="test", test_split="train"), solution)
    assert swapped.estimate("loss_gap").value == pytest.approx(-measured(GAP, solution).estimate("loss_gap").value)


def test_tokens_count_and_their_error_bar_is_over_examples() -> None:
    solution = tokens()
    found = measured(GAP, solution)
    data, right, counted = solution.task.splits["train"], 0.0, 0.0
    for batch in data:
        with torch.no_grad():
            answers = solution.net.module(batch.x).logits.argmax(1)
        counts = batch.y != -100
        right += float((answers == batch.y)[counts].sum())
        counted += float(counts.sum())
    accuracy = found.estimate("train_accuracy")
    assert accuracy.value == pytest.approx(right / counted)
    assert accuracy.n < 17 < counted  # examples without a counted token tell nothing
    assert accuracy.stderr is not None


def test_chance_is_the_commonest_class() -> None:
    module = built(lambda: nn.Linear(2, 3))
    solution = held(module, random(10, 2), torch.tensor([2] * 7 + [0] * 3))
    assert measured(GAP, solution).estimate("train_chance").value == 0.7


@pytest.mark.parametrize(("good", "said"), [(True, False), (False, True)])
def test_the_reading_compares_with_chance(good: bool, said: bool) -> None:
    x = torch.cat([torch.ones(40, 1), -torch.ones(40, 1)])
    y = torch.tensor([0] * 40 + [1] * 40)
    module = nn.Linear(1, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0], [-3.0]]))
        module.bias.zero_()
    test = (x, y if good else classes(80, num_classes=2))
    found = measured(GAP, held(module, x, y, test=test))
    assert ("nothing that generalises" in GAP.reading(found)) == said


def test_a_loss_that_compares_examples_has_no_error_bar() -> None:
    """A contrast between examples is no mean over them, though it says it is."""

    def contrast(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(outputs - outputs.mean(0), y)

    solution = held(built(lambda: nn.Linear(2, 1)), random(9, 2), random(9, 1), loss=OwnLoss(function=contrast))
    found = measured(GAP, solution)
    assert found.estimate("train_loss").stderr is None
    assert "loss_not_separable" in [note.code for note in found.notes]


def test_a_loss_that_cannot_be_taken_apart_has_no_error_bar() -> None:
    class Pooled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).mean(0)

    loss = OwnLoss(function=lambda outputs, y: (outputs.mean() - y.mean()) ** 2)
    found = measured(GAP, held(built(lambda: Pooled(2, 4)), random(9, 2), random(9, 1), loss=loss))
    assert found.estimate("train_loss").stderr is None
    assert "loss_not_separable" in [note.code for note in found.notes]
    assert "train_accuracy" not in found.values


def test_a_regression_has_losses_only_in_its_own_unit() -> None:
    module = built(lambda: nn.Linear(2, 1))
    test = random(5, 2), random(5, 1)
    solution = held(module, random(9, 2), random(9, 1), loss=SquaredError(), test=test)
    found = measured(GAP, solution)
    assert set(found.values) == {"train_loss", "test_loss", "loss_gap", "steps"}
    assert found.estimate("loss_gap").unit == "1"


def test_a_diverged_network_is_said_to_be() -> None:
    solution = classifier()
    solution.params["weight"][:] = torch.nan
    found = measured(GAP, solution)
    assert np.isnan(found.estimate("train_loss").value)
    assert found.estimate("train_accuracy").value == 0.0
    assert [note.code for note in found.notes] == ["not_finite", "not_finite"] or len(found.notes) == 1


def test_one_example_has_no_error_bar() -> None:
    found = measured(GAP, held(built(lambda: nn.Linear(2, 3)), random(1, 2), classes(1)))
    assert found.estimate("train_loss").stderr is None
    assert found.estimate("train_loss").n == 1


def test_steps_are_those_of_the_solution() -> None:
    assert measured(GAP, classifier()).estimate("steps").value == 0
    assert isinstance(GeneralizationGap.tiny(), GeneralizationGap)
    assert CrossEntropy().kind == "categorical"


def test_an_accuracy_of_all_has_an_error_bar() -> None:
    """20 of 20 say little of one in a hundred: the scatter of answers that are all right is 0."""
    x = torch.eye(4)[torch.arange(20) % 4]
    y, module = x.argmax(1), torch.nn.Linear(4, 4)
    with torch.no_grad():
        module.weight.copy_(torch.eye(4))
        module.bias.zero_()
    found = measured(GAP, Solution.of(module, nn.CrossEntropyLoss(), train=(x, y), test=(x, (y + 1) % 4)))
    right, wrong = found.estimate("train_accuracy"), found.estimate("test_accuracy")
    assert (right.value, wrong.value) == (1, 0)
    assert (right.stderr, wrong.stderr) == (pytest.approx(0.5 / 21),) * 2  # half of Wilson's interval at 68 %
    assert found.estimate("accuracy_gap").stderr == pytest.approx(np.hypot(0.5 / 21, 0.5 / 21))
