"""Each loss against its formula in numpy, number by number, and against what its source proves of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch

from vallis.core.errors import LossError
from vallis.core.losses import CrossEntropy
from vallis.core.robust_losses import Robust, RobustLoss

NAMES: tuple[Robust, ...] = get_args(Robust)
FORMULAS: dict[str, Callable[[float], float]] = {
    "unhinged": lambda m: 1 - m,
    "sigmoid": lambda m: 1 / (1 + math.exp(m)),
    "ramp": lambda m: min(1.0, max(0.0, (1 - m) / 2)),
    "savage": lambda m: 1 / (1 + math.exp(2 * m)) ** 2,
}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(name: str, scores: np.ndarray, label: int) -> float:
    """Of one row of scores."""
    if name == "bootstrap":
        p = np.exp(scores) / np.exp(scores).sum()
        return -sum((0.95 * (k == label) + 0.05 * p[k]) * math.log(p[k]) for k in range(len(p)))
    return float(np.mean([FORMULAS[name](z if k == label else -z) for k, z in enumerate(scores)]))


@pytest.mark.parametrize("name", NAMES)
def test_the_formula(name: Robust) -> None:
    loss, scores, y = RobustLoss(name=name), 2 * drawn(9, 4), torch.arange(9) % 4
    expected = [by_hand(name, row, int(label)) for row, label in zip(scores.numpy(), y, strict=True)]
    losses, weights = loss.per_example(scores, y)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-12)
    assert weights.tolist() == [1] * 9 and loss.weight(y) == 9
    assert float(loss(scores, y)) == pytest.approx(np.mean(expected), rel=1e-12)
    leaf = scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss.mean(z, y), leaf)


@pytest.mark.parametrize("name", NAMES)
def test_places_and_targets_that_do_not_count(name: Robust) -> None:
    loss, scores, y = RobustLoss(name=name), drawn(3, 4, 5), torch.arange(15).reshape(3, 5) % 4
    y[0, 1:4] = y[2] = -100
    counted = [(n, t) for n in range(3) for t in range(5) if y[n, t] >= 0]
    expected = [by_hand(name, scores[n, :, t].numpy(), int(y[n, t])) for n, t in counted]
    assert float(loss.mean(scores, y)) == pytest.approx(np.mean(expected), rel=1e-12)
    losses, weights = loss.per_example(scores, y)
    assert weights.tolist() == [2, 5, 0]
    assert float((losses * weights).sum()) == pytest.approx(sum(expected), rel=1e-12)


@pytest.mark.parametrize(("name", "constant"), [("unhinged", 2.0), ("sigmoid", 1.0), ("ramp", 1.0), ("savage", None)])
def test_symmetric_losses_of_two_classes_are_scaled_by_noise_and_nothing_else(
    name: Robust, constant: float | None
) -> None:
    """``l(m) + l(-m) = c``: the mean over flips of rate r is ``(1 - 2r) l + r c``. Savage is not symmetric."""
    loss, scores, y = RobustLoss(name=name), drawn(20, 2), torch.arange(20) % 2
    right, wrong = (loss.per_example(scores, labels)[0] for labels in (y, 1 - y))
    told = (right + wrong).tolist()
    assert (np.ptp(told) < 1e-12) == (constant is not None)
    if constant is not None:
        assert told[0] == pytest.approx(constant)
        noisy = 0.7 * right + 0.3 * wrong
        torch.testing.assert_close(noisy, 0.4 * right + 0.3 * constant)


def test_bootstrapping_with_all_of_the_label_is_cross_entropy_and_bounded_losses_are_bounded() -> None:
    scores, y = 30 * drawn(50, 5), torch.arange(50) % 5
    whole = RobustLoss(name="bootstrap", label_share=1.0)
    torch.testing.assert_close(whole.mean(scores, y), CrossEntropy().mean(scores, y), rtol=1e-12, atol=0)
    for name in ("sigmoid", "ramp", "savage"):
        losses, _ = RobustLoss(name=name).per_example(scores, y)
        assert 0 <= float(losses.min()) <= float(losses.max()) <= 1
    sure = torch.tensor([[1e4, -1e4]], requires_grad=True)
    for name in NAMES:
        loss = RobustLoss(name=name).mean(sure, torch.tensor([1]))
        assert bool(loss.isfinite()) and bool(torch.autograd.grad(loss, sure)[0].isfinite().all())


def test_what_is_no_loss_or_does_not_fit_is_refused() -> None:
    with pytest.raises(LossError, match="bootstrap was required, 'hinge' came"):
        RobustLoss(name="hinge")  # type: ignore[arg-type]
    with pytest.raises(LossError, match=r"in \[0, 1\]"):
        RobustLoss(name="bootstrap", label_share=1.5)
    loss, y = RobustLoss(name="ramp"), torch.tensor([0, 1])
    for scores in (drawn(2), drawn(2, 1), "scores"):
        with pytest.raises(LossError, match="scores"):
            loss.mean(scores, y)
    for labels in (
        torch.tensor([0.0, 1.0]),
        torch.tensor([[0], [1]]),
        torch.tensor([0, 3]),
        torch.tensor([-1, 0]),
        [0],
    ):
        with pytest.raises(LossError, match="classes"):
            loss.mean(drawn(2, 3), labels)
