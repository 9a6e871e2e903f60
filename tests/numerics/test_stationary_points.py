"""Certificates of bowls, saddles and slopes that are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.numerics.solutions import held, mlp
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.numerics.stationary_points import certify


class Product(nn.Module):
    """``u v x``: with the target 1 the origin is a saddle of ``(u v - 1)^2``, with curvatures -2 and 2."""

    def __init__(self, u: float, v: float) -> None:
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.tensor([value], dtype=torch.float64)) for value in (u, v))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.u * self.v * x


def product(u: float, v: float) -> Objective:
    one = torch.ones(3, 1, dtype=torch.float64)
    return Objective(held(Product(u, v), one, one, loss=SquaredError()))


def test_a_saddle() -> None:
    found = certify(product(0.0, 0.0), rng=Rng(0), radii=(0.1, 0.5))
    assert (found.kind, found.gradient_norm) == ("saddle", 0.0)
    assert (found.smallest, found.largest) == pytest.approx((-2.0, 2.0))
    # Along (1, 1) / sqrt(2) it is (r^2 / 2 - 1)^2.
    assert found.downhill == pytest.approx([(0.005 - 1) ** 2 - 1, (0.125 - 1) ** 2 - 1])


def test_a_degenerate_minimum_has_a_valley() -> None:
    found = certify(product(2.0, 0.5), rng=Rng(0), curvature_tolerance=1e-9)
    assert found.kind == "degenerate_minimum"
    assert found.largest == pytest.approx(2 * (0.25 + 4.0))
    assert found.smallest == pytest.approx(0.0, abs=1e-12)
    assert (found.lowest_changes >= 0).all()


def test_a_slope_and_a_strict_minimum() -> None:
    assert certify(product(1.0, 0.0), rng=Rng(0)).kind == "not_stationary"
    x = torch.eye(3, dtype=torch.float64)
    module = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(1.0)
    bowl = Objective(held(module, x, torch.ones(3, 1, dtype=torch.float64), loss=SquaredError()))
    found = certify(bowl, rng=Rng(0), radii=(0.1,), num_directions=7)
    assert found.kind == "strict_minimum"
    assert found.smallest == pytest.approx(2 / 3)
    assert found.lowest_changes == pytest.approx([0.01 / 3])


def test_a_network_on_its_way_is_on_a_slope() -> None:
    assert certify(Objective(mlp(double=True)), rng=Rng(0), num_directions=3).kind == "not_stationary"
