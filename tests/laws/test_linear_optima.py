"""Curvature cannot tell the optima of a linear model apart: at each of them the Hessian is ``(1/n) X' diag(b) X``.

b_i is the second derivative of the loss in the answer, and all optima give the same answers. So the least norm, which
generalises, and any other optimum are equally flat.

Source: Zhang et al. (2017), section 5.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.numerics.solutions import random
from vallis.numerics.curvature import Hessian
from vallis.numerics.minimum_norm import linear_system


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_the_hessian_is_the_same_at_every_global_optimum(loss: str) -> None:
    """Ten examples in 30 dimensions; shares as targets, so that the logistic loss has optima at finite weights."""
    x, shares = random(10, 30).double(), torch.rand(10, 1, generator=torch.Generator().manual_seed(3)).double()
    targets = shares if loss == "logistic" else shares.logit()
    criterion = nn.BCEWithLogitsLoss() if loss == "logistic" else nn.MSELoss()
    system = linear_system(x, shares.logit())
    bends = shares * (1 - shares) if loss == "logistic" else torch.full_like(shares, 2.0)
    expected = x.T @ (bends * x) / 10
    outside = torch.eye(30, dtype=torch.float64) - system.basis @ system.basis.T
    away = system.solution + 5 * outside @ random(30, 1, seed=9).double()
    assert float(away.norm()) > 3 * float(system.solution.norm())
    for weights in (system.solution, away):
        module = nn.Linear(30, 1, bias=False).double()
        with torch.no_grad():
            module.weight.copy_(weights.T)
        slope = torch.autograd.grad(criterion(module(x), targets), list(module.parameters()))[0]
        assert float(slope.abs().max()) < 1e-12, "an optimum"
        found = Hessian.of(module, criterion, [(x, targets)])
        dense = torch.stack([found @ column for column in torch.eye(30, dtype=torch.float64)])
        torch.testing.assert_close(dense, expected, rtol=1e-10, atol=1e-12)


def test_away_from_an_optimum_it_is_another() -> None:
    """The law is about optima: where answers differ, so does the curvature of the logistic loss."""
    x = random(10, 30).double()
    small, large = (x @ random(30, 1, seed=seed).double() * size for seed, size in ((1, 0.01), (1, 3.0)))
    first, second = (F.sigmoid(z) * (1 - F.sigmoid(z)) for z in (small, large))
    assert float((x.T @ (first * x) - x.T @ (second * x)).abs().max()) > 0.1
