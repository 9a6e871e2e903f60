"""Written-down points: exactly the affine fit, exactly the variance, flat around, and a better point beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.numerics.solutions import random
from vallis.core.errors import UsageError
from vallis.core.rng import Rng
from vallis.numerics.bad_minima import affine_fit, affine_minimum, better_point, dead_plateau

X, Y = random(20, 3).double(), random(20, 2, seed=1).double()


def mse(module: torch.nn.Module) -> float:
    with torch.no_grad():
        return float((module(X) - Y).square().mean())


def test_the_fit_is_that_of_the_normal_equations() -> None:
    slopes, offset, residual = affine_fit(X, Y)
    design = np.column_stack([X.numpy(), np.ones(20)])
    solved = np.linalg.solve(design.T @ design, design.T @ Y.numpy())
    np.testing.assert_allclose(torch.cat([slopes, offset[None]]).numpy(), solved, atol=1e-10)
    assert residual == pytest.approx(float(np.mean((design @ solved - Y.numpy()) ** 2)))


@pytest.mark.parametrize("width", [2, 3, 100, 1001])
@pytest.mark.parametrize("scale", [1.0, -0.3])
def test_the_minimum_equals_the_affine_fit_at_any_width(width: int, scale: float) -> None:
    found = affine_minimum(X, Y, width, scale)
    assert mse(found.module) == pytest.approx(found.loss, rel=1e-12)
    assert found.loss == pytest.approx(affine_fit(X, Y)[2])
    assert found.margin >= 1.0
    hidden = found.module[0](X)
    assert float(hidden.detach().min()) == pytest.approx(found.margin)
    for seed in range(20):  # a network near it is affine on the data, so it cannot be better
        noise = {name: torch.randn(value.shape, generator=Rng(seed).child(name).torch(), dtype=value.dtype)
                 for name, value in found.module.state_dict().items()}  # fmt: skip
        moved = {name: value + 1e-3 * noise[name] for name, value in found.module.state_dict().items()}
        with torch.no_grad():
            loss = (torch.func.functional_call(found.module, moved, X) - Y).square().mean()
        assert float(loss) >= found.loss


def test_a_plateau_has_no_gradient_and_the_variance_as_its_loss() -> None:
    found = dead_plateau(X, Y, 50, Rng(0))
    assert found.margin < -0.5
    loss = (found.module(X) - Y).square().mean()
    assert float(loss.detach()) == pytest.approx(float(Y.var(dim=0, unbiased=False).mean()), rel=1e-12)
    gradients = torch.autograd.grad(loss, list(found.module.parameters()))
    assert max(float(part.abs().max()) for part in gradients) < 1e-15


def test_a_wide_network_has_a_point_where_all_is_fitted() -> None:
    assert mse(better_point(X, Y, 100, Rng(0)).module) < 1e-15
    narrow = better_point(X, Y, 4, Rng(0))
    assert mse(narrow.module) == pytest.approx(narrow.loss)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        affine_minimum(X, Y, 1)
