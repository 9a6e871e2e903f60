"""Roots of the curvature of losses as the house and users write them, against dense Hessians in the scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built, classes, held, random, tokens
from vallis.core.errors import LossError
from vallis.core.functional import differentiating
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from vallis.core.objective import Objective
from vallis.core.own_loss import OwnLoss, Picked, adapt
from vallis.core.types import Solution
from vallis.numerics.loss_roots import ColumnRoot, SoftmaxRoot, root, softmax_columns

N = 6


def linear(loss: Loss, y: torch.Tensor, width: int = 3) -> Solution:
    return held(built(lambda: nn.Linear(2, width)), 3 * random(N, 2), y, loss=loss, batch_size=4)


def ignoring() -> torch.Tensor:
    y = classes(N)
    y[[1, 4]] = -100
    return y


def smoothed() -> Loss:
    return adapt(nn.CrossEntropyLoss(label_smoothing=0.2))


CASES: dict[str, tuple[Loss, torch.Tensor, int]] = {
    "classes": (CrossEntropy(), classes(N), 2),
    "smoothed": (smoothed(), classes(N), 2),
    "ignoring": (CrossEntropy(), ignoring(), 2),
    "distributions": (CrossEntropy(), random(N, 3).softmax(1), 2),
    "masses": (CrossEntropy(), random(N, 3).abs(), 2),
    "squared": (SquaredError(), random(N, 3), 3),
    "binary": (BinaryCrossEntropy(), classes(N, 3, num_classes=2), 3),
    "picked": (Picked(loss=CrossEntropy(), pick=lambda f: 2 * f), classes(N), 2),
    "weighted": (adapt(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))), classes(N), 3),
    "own": (OwnLoss(function=lambda f, y: (1 + (f - y).square().sum(1)).sqrt().mean()), random(N, 3), 3),
    "part": (OwnLoss(function=lambda f, y: ((f[:, 0] - y) ** 2).mean()), random(N), 1),
}


def bends(solution: Solution) -> tuple[list[torch.Tensor], list[torch.Tensor], list[int]]:
    """For each batch the sum of ``r r'`` over the columns, by all its scores, and the dense Hessian by them."""
    found, truth, counts = [], [], []
    for term in Objective(solution, dtype=torch.float64).terms():
        with differentiating():
            returned = term.outputs([value.requires_grad_() for value in term.objective.origin])
            square = root(term, returned)
        (scores,) = square.outputs if isinstance(square, ColumnRoot) else (returned,)
        columns = list(square.columns())
        counts.append(len(columns))
        pulled = torch.zeros(scores.numel(), scores.numel(), dtype=torch.float64)
        for column in columns:
            (slope,) = torch.autograd.grad(square.outputs, (returned,), column, retain_graph=True)
            for example in range(len(slope)):  # columns of different examples do not belong together
                row = torch.zeros_like(slope)
                row[example] = slope[example]
                pulled += torch.outer(row.reshape(-1), row.reshape(-1))
        loss = term.objective.loss

        def value(f: torch.Tensor, loss: Loss = loss, y: Any = term.batch.y, share: float = term.share) -> torch.Tensor:
            return share * loss.mean(f, y)

        bent = torch.autograd.functional.hessian(value, scores.detach())
        assert isinstance(bent, torch.Tensor)
        found.append(pulled)
        truth.append(bent.reshape(scores.numel(), scores.numel()))
    return found, truth, counts


@pytest.mark.parametrize("name", CASES)
def test_the_columns_square_to_the_curvature_of_the_batch(name: str) -> None:
    loss, y, num_columns = CASES[name]
    found, truth, counts = bends(linear(loss, y))
    for one, other in zip(found, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert counts == [num_columns, num_columns]


def test_tokens_have_columns_of_their_own_position() -> None:
    solution = tokens()
    term = next(Objective(solution, dtype=torch.float64).terms())
    with differentiating():
        found = root(term, term.outputs([value.requires_grad_() for value in term.objective.origin]))
    assert isinstance(found, SoftmaxRoot)
    columns = [column for (column,) in found.columns()]
    assert len(columns) == 4 * 4
    for column in columns:
        assert (column != 0).any(1).sum(1).max() == 1  # (N, C, T): one position each
    ignored = term.batch.y == -100
    assert ignored.any()
    assert all(not column.transpose(1, 2)[ignored].any() for column in columns)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_softmax_root_holds_for_saturated_probabilities(dtype: torch.dtype) -> None:
    logits = torch.cat([random(40, 5) * scale for scale in (0.1, 1.0, 10.0, 100.0)]).to(dtype)
    p = torch.cat([logits.softmax(1), torch.eye(5, dtype=dtype), torch.eye(5, dtype=dtype).roll(1, 0)])
    exact = p.double()
    found = torch.stack(list(softmax_columns(p)), 2).double()
    assert found.shape == (170, 5, 4)
    assert found.isfinite().all()
    truth = torch.diag_embed(exact) - exact[:, :, None] * exact[:, None, :]
    torch.testing.assert_close(
        found @ found.transpose(1, 2), truth, rtol=0, atol=1e-14 if dtype == torch.float64 else 3e-7
    )


def test_a_small_curvature_keeps_its_digits() -> None:
    """Where one class has all but 1e-12: differences from one would have lost it."""
    p = torch.tensor([1e-12, 1e-13, 1.0], dtype=torch.float64).flip(0)
    found = torch.cat(list(softmax_columns(p[None]))).T
    torch.testing.assert_close((found @ found.T)[1, 1], p[1] * (1 - p[1]), rtol=1e-12, atol=0)
    torch.testing.assert_close((found @ found.T)[0, 0], p[1] + p[2], rtol=1e-10, atol=0)


def test_a_loss_without_scores_has_no_root() -> None:
    loss = OwnLoss(function=lambda outputs, y: ((outputs[0] * outputs[1] - y) ** 2).mean())

    class Odd(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            return super().forward(x), super().forward(-x)

    term = next(Objective(held(built(lambda: Odd(2, 1)), random(N, 2), random(N, 1), loss=loss)).terms())
    with differentiating(), pytest.raises(LossError, match="outputs="):
        root(term, term.outputs([value.requires_grad_() for value in term.objective.origin]))


class Turned(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).T


def test_negative_masses_and_scores_without_an_example_axis_are_refused() -> None:
    turned = held(
        built(lambda: Turned(2, 3)), random(N, 2), random(N), loss=OwnLoss(function=lambda f, y: (f**2).mean())
    )
    for solution, words in ((linear(CrossEntropy(), -random(N, 3).abs()), "convex"), (turned, "first axis")):
        term = next(Objective(solution).terms())
        with differentiating(), pytest.raises(LossError, match=words):
            root(term, term.outputs([value.requires_grad_() for value in term.objective.origin]))
