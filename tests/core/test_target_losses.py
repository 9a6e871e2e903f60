from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from vallis.core.errors import LossError
from vallis.core.target_losses import ClassLoss


@dataclass(frozen=True)
class Plain(ClassLoss):
    """Cross-entropy, the long way round."""

    ignore_index: int = -100

    def _each(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        counted = self._counted(outputs, y, "classes {wanted} were required")
        losses = F.cross_entropy(outputs, y, ignore_index=self.ignore_index, reduction="none")
        return losses, counted.to(losses.dtype)


@pytest.mark.parametrize("shape", [(6, 4), (5, 4, 3)])
def test_means_are_over_what_counts(shape: tuple[int, ...]) -> None:
    scores, loss = torch.randn(shape, dtype=torch.float64), Plain()
    y = torch.randint(4, (shape[0], *shape[2:]))
    y[0] = -100
    y[-1].fill_(2)
    expected = F.cross_entropy(scores, y)
    torch.testing.assert_close(loss.mean(scores, y), expected)
    torch.testing.assert_close(loss(scores, y), expected)
    assert loss.weight(y) == float((y != -100).sum())
    losses, counts = loss.per_example(scores, y)
    assert losses.shape == counts.shape == (shape[0],)
    assert float(counts[0]) == 0
    torch.testing.assert_close((losses * counts).sum() / counts.sum(), expected)
    assert loss.scores(scores) is scores
    assert bool(loss.mean(scores, torch.full_like(y, -100)).isnan())


@pytest.mark.parametrize(
    "y",
    [torch.zeros(5, dtype=torch.int64), torch.zeros(6), torch.zeros(6, 4), [0] * 6],
    ids=["few", "real", "wide", "list"],
)
def test_what_are_no_classes_is_refused_in_the_words_of_the_loss(y: Any) -> None:
    with pytest.raises(LossError, match=r"classes \(6,\) were required, .* came: give a whole number each"):
        Plain().mean(torch.zeros(6, 4), y)
