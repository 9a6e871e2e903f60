"""Square roots of a loss's curvature, against its dense Hessian in the scores."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from tests.numerics.solutions import classes, random
from vallis.core.errors import LossError, ModelError
from vallis.numerics.loss_bends import Bends, unflattened

N, K = 5, 3
Y = classes(N)
LOSSES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], bool]] = {
    "squared": (lambda f: F.mse_loss(f, random(N, K, seed=3).double()), True),
    "binary": (lambda f: F.binary_cross_entropy_with_logits(f, F.one_hot(Y, K).double()), True),
    "linear": (lambda f: f.mean(), True),
    "cross_entropy": (lambda f: F.cross_entropy(f, Y), False),
    "weighted": (lambda f: F.cross_entropy(f, Y, weight=torch.tensor([1.0, 0.0, 3.0]).double()), False),
    "distance": (lambda f: (1 + (f - 1).square().sum(1)).sqrt().mean(), False),
}


def bends(loss: Callable[[torch.Tensor], torch.Tensor], scores: torch.Tensor) -> Bends:
    free = scores.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(free), free, create_graph=True)
    return Bends((free,), (slope,), len(scores))


@pytest.mark.parametrize("name", LOSSES)
def test_the_root_squares_to_the_hessian_in_the_scores(name: str) -> None:
    loss, diagonal = LOSSES[name]
    scores = 2 * random(N, K).double()
    truth = torch.autograd.functional.hessian(loss, scores)
    root = bends(loss, scores).root()
    assert root.shape == ((N, K) if diagonal else (N, K, K))
    for example in range(N):
        matrix = torch.diag(root[example]) if diagonal else root[example]
        torch.testing.assert_close(matrix @ matrix.T, truth[example, :, example], rtol=1e-10, atol=1e-12)


def test_scores_in_two_tensors_of_any_shape() -> None:
    one, two = random(N, 2, 2).double().requires_grad_(), random(N).double().requires_grad_()
    loss = (one.sum((1, 2)) * 1.5 + two).square().mean()
    slopes = torch.autograd.grad(loss, (one, two), create_graph=True)
    root = Bends((one, two), slopes, N).root()
    direction = torch.tensor([1.5, 1.5, 1.5, 1.5, 1.0]).double()
    expected = 2 / N * torch.outer(direction, direction).expand(N, 5, 5)
    torch.testing.assert_close(root @ root.transpose(1, 2), expected, rtol=1e-10, atol=1e-12)
    assert [part.shape for part in unflattened(random(N, 5), (one, two))] == [one.shape, two.shape]


@pytest.mark.parametrize("loss", [lambda f: -f.square().mean(), lambda f: (f[:, 0] * f[:, 1]).mean()])
def test_a_loss_that_bends_down_has_no_root(loss: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(LossError, match="convex in the scores"):
        bends(loss, random(N, K).double()).root()


def test_a_loss_without_second_derivatives_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match=r"torch has no derivative of .*multi_margin_loss_backward"):
        bends(lambda f: F.multi_margin_loss(f, Y, p=2), random(N, K).double()).root()


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallis.numerics.loss_bends._LARGEST", 10)
    with pytest.raises(LossError, match="smaller batches"):
        bends(LOSSES["distance"][0], random(N, K).double()).root()
    assert bends(LOSSES["squared"][0], random(N, K).double()).root().shape == (N, K)


def test_no_scores_at_all() -> None:
    assert Bends((), (), N).root().shape == (N, 0)
