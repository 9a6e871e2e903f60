"""Growth of known powers; the toy against its gradient; the exponential unit against the theorem."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.numerics.solutions import random
from vallis.core.rng import Rng
from vallis.numerics.paths_to_infinity import descend_toy, descend_with_neuron, growth


def test_growth_of_powers() -> None:
    steps = np.array([0.0, *np.geomspace(1, 1000, 30)])
    with np.errstate(divide="ignore"):
        found = growth(steps, steps**0.25, steps**-1.0, 3 * steps**-1.5)
        shrinking = growth(steps, steps**-0.1, 1 / (1 + steps), 1 / (1 + steps))
    assert (found.norm, found.loss, found.gradient) == pytest.approx((0.25, -1.0, -1.5))
    assert found.to_infinity and not shrinking.to_infinity
    assert math.isnan(growth([0.0, 5.0], np.ones(2), np.ones(2), np.ones(2)).norm)


def test_the_toy_goes_down_its_gradient() -> None:
    found = descend_toy(num_steps=1, learning_rate=0.1, penalty=2.0, a=0.7, b=0.3)
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.7, 0.3))
    objective = (a * b.exp() - 1) ** 2 + a**2
    slopes = torch.autograd.grad(objective, (a, b))
    assert found.a[0] == pytest.approx(0.7 - 0.1 * float(slopes[0]))
    assert found.b[0] == pytest.approx(0.3 - 0.1 * float(slopes[1]))
    assert found.gradients[0] == pytest.approx(math.hypot(*map(float, slopes)))


def test_a_network_that_can_learn_does_and_the_unit_dies() -> None:
    """A linear network on separable data: its own loss falls and the coefficient goes to zero."""
    x = random(40, 3).double()
    signs = torch.where(x[:, 0] > 0, 1.0, -1.0).double()
    x[:, 0] += signs  # no example near the boundary, else all is the same and slower
    weight = torch.zeros(3, dtype=torch.float64)
    found = descend_with_neuron(
        lambda point: x @ point[0], [weight], x, signs, penalty=0.5, learning_rate=0.05, num_steps=3000, rng=Rng(0)
    )
    assert found.own_losses[0] == pytest.approx(1.0)
    assert found.own_losses[-1] < 0.02
    assert abs(found.coefficients[-1]) < 0.1 * np.abs(found.coefficients).max()
    assert weight.equal(torch.zeros(3, dtype=torch.float64))


def test_a_network_that_cannot_move_sends_the_unit_away() -> None:
    """A dead network is constant: a gets small, but only because w and b grow."""
    x = random(40, 3).double()
    signs = torch.where(x[:, 0] > 0, 1.0, -1.0).double()
    found = descend_with_neuron(
        lambda point: point[0] * 0 * x[:, 0], [torch.zeros(1, dtype=torch.float64)], x, signs,
        penalty=0.1, learning_rate=0.02, num_steps=3000, rng=Rng(0),
    )  # fmt: skip
    assert found.own_losses[-1] == pytest.approx(1.0)
    assert abs(found.coefficients[-1]) < np.abs(found.coefficients).max()
    assert found.norms[-1] > found.norms[len(found.norms) // 2]
