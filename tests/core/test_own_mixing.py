"""Refused at the door: networks whose answer to one example depends on the others of its batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.core.caller import is_sentence
from tests.core.networks import draw
from vallis.core.errors import ModelError
from vallis.core.types import Solution

X, Y = draw(10, 3).float(), torch.arange(10) % 4


def plain(module: nn.Module, **how: Any) -> Solution:
    return Solution.of(module, nn.CrossEntropyLoss(), **how)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_one_that_fails_on_a_part_of_a_small_batch_is_named_too(size: int) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(ModelError, match="1 is a batch normalisation without running statistics") as caught:
        plain(module, train=(X[:size], Y[:size]))
    assert is_sentence(str(caught.value))


def test_one_that_mixes_examples_is_named_where_all_losses_are_next_to_zero() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2))
    with torch.no_grad():
        module[2].bias[0] += 50.0
    with pytest.raises(ModelError, match="1 is a batch normalisation without running statistics"):
        plain(module, train=(X, torch.zeros_like(Y)))


@pytest.mark.parametrize("first", [lambda y: 0 * y, lambda y: y % 2])
@pytest.mark.parametrize("bend", [lambda z: z - z.mean(0), lambda z: z + z.max(), lambda z: z.flip(0), lambda z: z])
def test_mixing_of_any_kind_is_found_where_all_losses_are_next_to_zero(
    bend: Callable[[torch.Tensor], torch.Tensor], first: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    targets = first(Y)

    class Sure(nn.Module):
        """Certain of each example by a sign that it carries, whatever the rest of it becomes."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sure = 100.0 * F.one_hot((x[:, 0] > 0).long(), 4)
            return sure + bend(self.body(x))

    x = torch.where(targets > 0, 1.0, -1.0)[:, None] * X.abs()
    if bend(X) is X:
        assert plain(Sure(), train=(x, targets)).tasks[0].splits
        return
    with pytest.raises(ModelError, match="a batch of train change by") as caught:
        plain(Sure(), train=(x, targets))
    assert is_sentence(str(caught.value))


def test_what_a_batch_holds_beside_answers_may_depend_on_all_of_it() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            z = self.body(x)
            return {"logits": z + 100 * F.one_hot(torch.zeros(len(x), dtype=torch.int64), 4), "mean": z.mean(0)}

    assert plain(Both(), train=(X, torch.zeros_like(Y))).tasks[0].splits
