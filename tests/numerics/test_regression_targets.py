from __future__ import annotations

import pytest
import torch

from vallis.core.errors import DataError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from vallis.numerics.regression_targets import mean_error, regression_targets


def test_classes_are_one_hot_over_all_splits() -> None:
    train, test = regression_targets(CrossEntropy(), [torch.tensor([0, 1]), torch.tensor([2])])
    assert train.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert test.tolist() == [[0, 0, 1]]
    (lonely,) = regression_targets(CrossEntropy(), [torch.tensor([0])])
    assert lonely.tolist() == [[1, 0]]


def test_two_classes_are_signs_and_numbers_stay() -> None:
    (signs,) = regression_targets(BinaryCrossEntropy(), [torch.tensor([0, 1])])
    assert signs.tolist() == [[-1], [1]]
    (numbers,) = regression_targets(SquaredError(), [torch.tensor([0.5, 2.0])])
    assert (numbers.tolist(), numbers.dtype) == ([[0.5], [2.0]], torch.float64)
    (rows,) = regression_targets(SquaredError(), [torch.tensor([[0.5, 2.0]])])
    assert rows.tolist() == [[0.5, 2.0]]


def test_other_targets_are_refused() -> None:
    for loss, y in (
        (CrossEntropy(), torch.zeros(2, 3)),
        (CrossEntropy(), torch.tensor([0.5, 0.5])),
        (CrossEntropy(), torch.tensor([0, -100])),
        (SquaredError(), torch.zeros(2, 3, 4)),
        (SquaredError(), {"y": torch.zeros(2)}),
    ):
        with pytest.raises(DataError):
            regression_targets(loss, [y])  # type: ignore[list-item]


def test_errors_by_hand() -> None:
    values = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 1, 2, 2])]
    answers = torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    value, stderr, n = mean_error(CrossEntropy(), answers, values)
    assert (value, n) == (0.25, 4)
    assert stderr == pytest.approx((0.25 * 0.75 / 3) ** 0.5)
    signs = torch.tensor([[1.0], [-1.0]])
    assert mean_error(BinaryCrossEntropy(), torch.tensor([[0.1], [0.0]]), signs)[0] == 0.5
    assert mean_error(SquaredError(), torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]]))[0] == 2.5


def test_a_tie_is_an_error() -> None:
    """Far from all centres a kernel answers 0 for every class, which was right for the first one."""
    values = torch.eye(3, dtype=torch.float64)
    assert mean_error(CrossEntropy(), torch.zeros(3, 3), values)[0] == 1
    assert mean_error(CrossEntropy(), torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, torch.nan]]), values)[0] == 2 / 3
    no_number = torch.tensor([[torch.nan], [1.0]])
    assert mean_error(BinaryCrossEntropy(), no_number, torch.ones(2, 1, dtype=torch.float64))[0] == 0.5


@pytest.mark.parametrize("n", [1, 20])
def test_no_error_at_all_is_not_sure_to_be_none(n: int) -> None:
    values = torch.eye(3, dtype=torch.float64)[torch.arange(n) % 3]
    for answers, expected in ((values, 0.0), (-values, 1.0)):
        value, stderr, _ = mean_error(CrossEntropy(), answers, values)
        assert (value, stderr) == (expected, pytest.approx(0.5 / (n + 1)))  # half of Wilson's interval at 68 %
