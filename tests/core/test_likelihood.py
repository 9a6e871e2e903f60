"""Distributions of targets against enumeration, autograd and the frequencies of many draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vallis.core.errors import LossError
from vallis.core.likelihood import Likelihood, likelihood_of, mean_of_scores, needed_likelihood, uniforms
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from vallis.core.own_loss import OwnLoss, adapt


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "family", "shape"),
    [
        (CrossEntropy(), "categorical", (4, 3, 2)),
        (BinaryCrossEntropy(), "binary", (4, 2)),
        (SquaredError(), "normal", (4, 2)),
    ],
)
def test_expected_slopes_bend_as_the_loss_does(loss: Any, family: str, shape: tuple[int, ...]) -> None:
    """For these three the mean of ``s s'`` is the second derivative of the loss, here the sum over targets."""
    z, v = drawn(0, *shape), drawn(1, *shape)
    y = torch.zeros(4, 2, dtype=torch.long) if family == "categorical" else torch.zeros(4, 2, dtype=torch.float64)
    found = needed_likelihood(loss)
    assert found.family == family
    at = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss.mean(at, y) * loss.weight(y), at, create_graph=True)
    (truth,) = torch.autograd.grad(slope, at, v)
    torch.testing.assert_close(found.bend(z, found.expected(z), v), truth)


@pytest.mark.parametrize("family", ["categorical", "binary", "normal"])
def test_draws_come_as_often_as_the_model_says(family: Any) -> None:
    likelihood = Likelihood(family=family)
    z, repeats = drawn(2, 1, 3), 4000
    generator = [torch.Generator().manual_seed(5)]
    shape = likelihood.targets_shape(z)
    found = torch.stack([likelihood.drawn(z, uniforms(generator, shape)) for _ in range(repeats)])
    error = found.std(0) / math.sqrt(repeats)
    assert float(((found.mean(0) - likelihood.expected(z)) / error).abs().max()) < 4
    if family == "categorical":
        assert torch.equal(found.sum(2), torch.ones(repeats, 1, dtype=torch.float64))


def test_the_ends_of_the_unit_interval_are_targets_too() -> None:
    z = torch.tensor([[0.0, -800.0, 0.0]])
    categorical = Likelihood(family="categorical")
    assert categorical.drawn(z, torch.tensor([0.0])).argmax() == 0
    assert categorical.drawn(z, torch.tensor([0.5], dtype=torch.float64)).argmax() == 2
    assert categorical.drawn(z, torch.tensor([1 - 2.0**-53], dtype=torch.float64)).argmax() == 2
    assert bool(torch.isfinite(Likelihood(family="normal").drawn(z, torch.zeros(1, 3, dtype=torch.float64))).all())


def test_shares_are_what_torch_takes_its_mean_with() -> None:
    weights, z = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), drawn(3, 5, 3)
    y = torch.tensor([0, 2, -100, 1, 1])
    likelihood = likelihood_of(adapt(nn.CrossEntropyLoss(weight=weights), None, None))
    assert likelihood is not None
    shares = likelihood.shares(z, y)
    single = F.cross_entropy(z, y.clamp(min=0), reduction="none")
    torch.testing.assert_close((shares[:, 0] * single).sum(), F.cross_entropy(z, y, weight=weights))
    assert shares[2, 0] == 0
    with pytest.raises(LossError, match="classes were required beside class weights"):
        likelihood.shares(z, z.softmax(1))
    even = Likelihood(family="categorical").shares(z, z.softmax(1))
    torch.testing.assert_close(even, torch.full((5, 1), 0.2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("loss", "family"),
    [
        (nn.CrossEntropyLoss(), "categorical"),
        (nn.NLLLoss(), "categorical"),
        (F.nll_loss, "categorical"),
        (nn.MSELoss(), "normal"),
        (F.mse_loss, "normal"),
        (nn.BCEWithLogitsLoss(), "binary"),
        (F.binary_cross_entropy_with_logits, "binary"),
    ],
)
@pytest.mark.parametrize("count", [None, torch.numel])
def test_torchs_likelihoods_are_known(loss: Any, family: str, count: Any) -> None:
    found = likelihood_of(adapt(loss, count, None))
    assert found is not None
    assert found.family == family


@pytest.mark.parametrize(
    "loss", [nn.L1Loss(), nn.BCELoss(), nn.BCEWithLogitsLoss(weight=torch.ones(2)), lambda z, y: z.mean()]
)
def test_what_is_none_is_refused(loss: Any) -> None:
    assert likelihood_of(adapt(loss, None, None)) is None
    with pytest.raises(LossError, match=r"log-likelihood was required.*came: hand in"):
        needed_likelihood(adapt(loss, None, None))


def test_the_mean_of_scores_leaves_the_picking_out() -> None:
    z, y = drawn(4, 5, 3), torch.arange(5) % 3
    pick = lambda returned: returned["scores"]  # noqa: E731
    truth = F.cross_entropy(z, y)
    own = OwnLoss(function=F.cross_entropy, count=len, pick=pick)
    for loss in (CrossEntropy(), adapt(nn.CrossEntropyLoss(), None, pick), own):
        torch.testing.assert_close(mean_of_scores(loss, z, y), truth)
