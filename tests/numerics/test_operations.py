"""What a network costs, against what its layers are made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vallis.core.objective import Objective
from vallis.core.types import Solution
from vallis.numerics.operations import gradient_operations

N, SIDE, LENGTH = 5, 6, 7


class LastStep(nn.Module):
    """A layer of sequences, and classes from its last step."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.layer(x)
        return self.head((found[0] if isinstance(found, tuple) else found)[:, -1])


class MeanOfWords(nn.Module):
    """Nothing is multiplied but by the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.words(x).mean(1)


IMAGES, TOKENS = torch.randn(N, 2, SIDE, SIDE), torch.randn(N, LENGTH, 8)


@pytest.mark.parametrize(
    ("make", "x", "products"),
    [
        (lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(N, 8), 8 * 4 + 4 * 3),
        (
            lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * SIDE**2, 3)),
            IMAGES,
            2 * 9 * 4 * SIDE**2 + 4 * SIDE**2 * 3,
        ),
        (lambda: LastStep(nn.LSTM(8, 5, batch_first=True), 5), TOKENS, LENGTH * 4 * 5 * (8 + 5) + 5 * 3),
        (
            lambda: LastStep(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 8),
            TOKENS,
            LENGTH * (4 * 8 * 8 + 2 * 8 * 16) + 2 * LENGTH**2 * 8 + 8 * 3,
        ),
        (MeanOfWords, torch.zeros(N, LENGTH, dtype=torch.long), 10 * 3),  # nothing to count: every weight once
    ],
)
def test_it_is_three_times_two_operations_for_each_product(
    make: Callable[[], nn.Module], x: torch.Tensor, products: int
) -> None:
    solution = Solution.of(make(), nn.CrossEntropyLoss(), train=(x, torch.arange(N) % 3))
    before = torch.backends.mkldnn.enabled, torch.is_grad_enabled()
    assert gradient_operations(Objective(solution)) == 6 * products
    assert (torch.backends.mkldnn.enabled, torch.is_grad_enabled()) == before
