"""What examples and targets weigh, against what the losses count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built, classes, held, random
from vallis.core.corrected_losses import BackwardCorrected
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss, adapt
from vallis.numerics.row_weights import RowWeights, row_weights


def of(loss: Loss, y: torch.Tensor) -> RowWeights:
    solution = held(built(lambda: nn.Linear(2, 3)), random(len(y), 2), y, loss=loss, batch_size=len(y))
    return row_weights(next(Objective(solution).terms()))


def ignoring(y: torch.Tensor) -> torch.Tensor:
    y = y.clone()
    y[0] = -100
    return y


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (CrossEntropy(), classes(6)),
        (CrossEntropy(), random(6, 3).softmax(1)),
        (SquaredError(), random(6, 3)),
        (BinaryCrossEntropy(), classes(6, num_classes=2)),
        (OwnLoss(function=lambda outputs, y: outputs.mean()), random(6, 3)),
        (adapt(nn.HuberLoss()), random(6, 3)),
        (adapt(lambda outputs, y: outputs.mean(), count=lambda y: 2 * len(y)), random(6, 3)),
    ],
)
def test_most_losses_count_all_examples_alike(loss: Loss, y: torch.Tensor) -> None:
    found = of(loss, y)
    assert found.examples is None
    assert found.targets is None


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(),
        BackwardCorrected(transition=torch.eye(3).tolist()),
        adapt(lambda outputs, y: outputs.mean(), count=-100),
    ],
)
def test_ignored_targets_weigh_nothing(loss: Loss) -> None:
    y = classes(6, 2)
    y[1] = -100
    y[2, 1] = -100
    found = of(loss, y)
    assert found.targets is not None
    assert found.examples is not None
    assert torch.equal(found.targets, (y != -100).double())
    assert found.examples.tolist() == [2, 0, 1, 2, 2, 2]


def test_class_weights_are_weights() -> None:
    weights, y = torch.tensor([1.0, 2.0, 0.5]), classes(6)
    found = of(adapt(nn.CrossEntropyLoss(weight=weights)), y)
    assert found.targets is None
    assert found.examples is not None
    torch.testing.assert_close(found.examples, weights[y].double())


def test_a_count_that_is_no_sum_over_targets_is_asked_of_each_example() -> None:
    def pairs(y: Any) -> Any:
        return (y[:, 0] == y[:, 1]).sum()

    y = torch.tensor([[0, 0], [0, 1], [2, 2], [1, 2]])
    found = of(adapt(lambda outputs, y: outputs.mean(), count=pairs), y)
    assert found.targets is None
    assert found.examples is not None
    assert found.examples.tolist() == [1, 0, 1, 0]
