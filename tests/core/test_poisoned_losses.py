"""Reverse cross-entropy against its definition in float64, and the convex combination against its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from vallis.core.errors import LossError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from vallis.core.poisoned_losses import PoisonedLoss, as_poison, is_poison, reverse_cross_entropy


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Y = torch.tensor([0, 2, 1, 3, 2, 0])


def test_it_is_minus_the_logarithm_of_one_minus_p() -> None:
    logits = 2 * drawn(6, 4)
    p = torch.softmax(logits, 1).gather(1, Y[:, None])[:, 0]
    torch.testing.assert_close(reverse_cross_entropy(logits, Y), -torch.log1p(-p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_stays_exact_where_the_network_is_sure(dtype: torch.dtype) -> None:
    """1 - softmax is a rounded 0 there, and its logarithm infinite; at the other end a difference would be 0."""
    logits = torch.tensor([[1000.0, 0.0, 0.0], [-60.0, 0.0, 0.0], [88.0, 0.0, -200.0]], dtype=dtype)
    found = reverse_cross_entropy(logits, torch.zeros(3, dtype=torch.int64))
    expected = [1000 - math.log(2), math.exp(-60) / 2, 88.0]
    # exp(-60) is as sure as its argument, which is rounded to 60 eps.
    tolerance = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, torch.tensor(expected, dtype=dtype), rtol=tolerance, atol=0.0)


@pytest.mark.parametrize("apart", [19.0, 21.0, 27.0, 35.0, 45.0])
def test_in_double_precision_it_is_exact_to_rounding(apart: float) -> None:
    """Of two classes it is ``log(1 + e^x)``, which is above x by ``log1p(e^-x)``."""
    logits, y = torch.tensor([[apart, 0.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    expected = apart + math.log1p(math.exp(-apart))
    assert float(reverse_cross_entropy(logits, y)) == pytest.approx(expected, rel=1e-15)
    found, _ = PoisonedLoss(base=CrossEntropy(), poison_factor=1.0).mean_and_slope(logits, as_poison(y))
    assert float(found) == pytest.approx(expected, rel=1e-15)


def test_its_gradient_is_that_of_the_definition_and_finite_at_the_ends() -> None:
    logits = drawn(6, 4).requires_grad_()
    p = torch.softmax(logits, 1).gather(1, Y[:, None])[:, 0]
    (expected,) = torch.autograd.grad(-torch.log1p(-p).sum(), logits)
    (found,) = torch.autograd.grad(reverse_cross_entropy(logits, Y).sum(), logits)
    torch.testing.assert_close(found, expected)
    far = torch.tensor([[500.0, 0.0], [-500.0, 0.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(reverse_cross_entropy(far, torch.tensor([0, 0])).sum(), far)
    torch.testing.assert_close(slope, torch.tensor([[1.0, -1.0], [0.0, 0.0]]))


def test_of_two_classes_it_is_cross_entropy_with_the_other() -> None:
    logits = drawn(6, 2)
    torch.testing.assert_close(
        reverse_cross_entropy(logits, Y % 2), F.cross_entropy(logits, 1 - Y % 2, reduction="none")
    )


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_combination_is_convex_whatever_the_numbers_of_examples(beta: float) -> None:
    logits, y = drawn(6, 4), torch.cat([Y[:2], as_poison(Y[2:])])
    loss = PoisonedLoss(base=CrossEntropy(), poison_factor=beta)
    clean = F.cross_entropy(logits[:2], Y[:2])
    p = torch.softmax(logits[2:], 1).gather(1, Y[2:, None])[:, 0]
    expected = (1 - beta) * clean + beta * -torch.log1p(-p).mean()
    torch.testing.assert_close(loss.mean(logits, y), expected)
    each, weights = loss.per_example(logits, y)
    torch.testing.assert_close((each * weights).sum() / weights.sum(), expected)
    assert is_poison(y).tolist() == [False] * 2 + [True] * 4


def test_by_composition_beta_is_the_share_of_poison() -> None:
    logits, y = drawn(6, 4), torch.cat([Y[:2], as_poison(Y[2:])])
    composed = PoisonedLoss(base=CrossEntropy(), poison_factor=None).mean(logits, y)
    torch.testing.assert_close(composed, PoisonedLoss(base=CrossEntropy(), poison_factor=4 / 6).mean(logits, y))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_with_one_logit_poison_is_the_other_label(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    logits, y = drawn(*shape), (Y % 2).to(dtype)
    loss = PoisonedLoss(base=BinaryCrossEntropy(), poison_factor=0.25)
    found = loss.mean(logits, torch.cat([y[:2], as_poison(y[2:])]))
    flat = logits.reshape(-1)
    terms = [
        F.binary_cross_entropy_with_logits(flat[:2], y[:2].double()),
        F.binary_cross_entropy_with_logits(flat[2:], 1 - y[2:].double()),
    ]
    torch.testing.assert_close(found, 0.75 * terms[0] + 0.25 * terms[1])


def test_ignored_targets_do_not_count_and_a_batch_of_one_kind_is_a_mean() -> None:
    logits = drawn(6, 4)
    loss = PoisonedLoss(base=CrossEntropy(), poison_factor=0.5)
    ignored = torch.cat([Y[:1], torch.tensor([-100]), as_poison(Y[2:])])
    without = torch.cat([logits[:1], logits[2:]]), torch.cat([Y[:1], as_poison(Y[2:])])
    torch.testing.assert_close(loss.mean(logits, ignored), loss.mean(*without))
    assert loss.weight(ignored) == 5
    torch.testing.assert_close(loss.mean(logits, Y), F.cross_entropy(logits, Y))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, None])
@pytest.mark.parametrize("poisoned", [False, True])
def test_a_batch_of_one_kind_is_a_mean_at_any_factor(beta: float | None, poisoned: bool) -> None:
    logits, loss = drawn(6, 4), PoisonedLoss(base=CrossEntropy(), poison_factor=beta)
    y = as_poison(Y) if poisoned else Y
    expected = (reverse_cross_entropy(logits, Y) if poisoned else F.cross_entropy(logits, Y, reduction="none")).mean()
    torch.testing.assert_close(loss.mean(logits, y), expected)
    torch.testing.assert_close(loss.mean_and_slope(logits, y)[0], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.bool])
def test_the_mark_fits_beside_labels_of_any_type(dtype: torch.dtype) -> None:
    y = torch.tensor([0, 1, 1]).to(dtype)
    assert not is_poison(y).any()
    both = torch.cat([y, as_poison(y)])
    assert is_poison(both).tolist() == [False] * 3 + [True] * 3
    logits, loss = drawn(6), PoisonedLoss(base=BinaryCrossEntropy())
    flipped = torch.tensor([0, 1, 1, 1, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(loss.mean(logits, both), F.binary_cross_entropy_with_logits(logits, flipped))


@pytest.mark.parametrize("ignored", [-100, 3])
def test_poison_that_is_ignored_does_not_count(ignored: int) -> None:
    loss = PoisonedLoss(base=CrossEntropy(ignore_index=ignored), poison_factor=0.5)
    y = as_poison(torch.where(Y == 3, ignored, Y))
    assert loss.weight(y) == 5.0
    expected = reverse_cross_entropy(drawn(6, 4)[Y != 3], Y[Y != 3]).mean()
    torch.testing.assert_close(loss.mean(drawn(6, 4), y), expected)


def test_many_classes_are_not_mistaken_for_what_is_ignored() -> None:
    logits, y = drawn(2, 200), torch.tensor([99, 100])
    torch.testing.assert_close(
        PoisonedLoss(base=CrossEntropy()).per_example(logits, as_poison(y))[0], reverse_cross_entropy(logits, y)
    )


@pytest.mark.parametrize("base", [SquaredError(), CrossEntropy(label_smoothing=0.1)])
def test_other_losses_are_refused(base: SquaredError | CrossEntropy) -> None:
    with pytest.raises(LossError, match="choose a problem of classes"):
        PoisonedLoss(base=base)


def test_what_is_no_share_is_refused_and_one_class_is_none_too_few() -> None:
    with pytest.raises(LossError, match="poison factor in"):
        PoisonedLoss(base=CrossEntropy(), poison_factor=1.5)
    with pytest.raises(LossError, match="at least two classes"):
        PoisonedLoss(base=CrossEntropy()).mean(torch.ones(3, 1), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("beta", [None, 0.0, 0.3, 1.0])
def test_in_closed_form_it_is_what_autograd_finds(beta: float | None) -> None:
    loss = PoisonedLoss(base=CrossEntropy(), poison_factor=beta)
    logits = torch.cat([3 * drawn(6, 4), torch.tensor([[60.0, 0, 0, 0], [-60.0, 0, 0, 0]], dtype=torch.float64)])
    y = torch.cat([Y[:2], torch.tensor([-100]), as_poison(Y[3:]), as_poison(torch.tensor([0, 0]))])
    leaf = logits.requires_grad_()
    (expected,) = torch.autograd.grad(loss.mean(leaf, y), leaf)
    value, slope = loss.mean_and_slope(logits.detach(), y)
    torch.testing.assert_close(value, loss.mean(logits, y).detach())
    torch.testing.assert_close(slope, expected, rtol=1e-10, atol=1e-14)
