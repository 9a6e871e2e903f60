"""Trainings that never arrive: weights that grow for ever while the loss keeps falling.

A decreasing path to infinity shows as a rise of ``log |theta|`` with ``log t`` over the last decade of steps while loss
and gradient still fall. The toy ``(a e^b - 1)^2 + lambda a^2 / 2`` has nothing else: its infimum 0 is not attained, and
gradient flow follows ``b = log(2 lambda t) / 2`` with an objective of ``1 / (4 t)`` in the end (derived from a being
quasi-stationary). An exponential unit added to a network makes all its local minima global (Liang et al. 2018), and may
send gradient descent to infinity instead.

Source: Sun et al. (2020), sections II and III, on Liang et al. (2018), Adding one neuron can eliminate all bad local
    minima; Liang, Sun and Srikant (2019), Revisiting landscape analysis in deep neural networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vallis.core.functional import differentiating
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.paths import Floats


@dataclass(frozen=True, eq=False)
class Growth:
    """How things change over the last decade of steps, as powers of the number of steps.

    Attributes:
        norm: the slope of log norm with log t.
        loss: the slope of log loss with log t.
        gradient: the slope of log gradient norm with log t.
    """

    norm: float
    loss: float
    gradient: float

    @property
    def to_infinity(self) -> bool:
        """Whether the norm grows while loss and gradient fall, each by more than a training does that has arrived.

        Growth with log t is a slope of 1 / log t, 0.1 at ten thousand steps.
        """
        return self.norm > 0.01 and self.loss < -0.1 and self.gradient < -0.1


def growth(steps: Sequence[float] | Floats, norms: Floats, losses: Floats, gradients: Floats) -> Growth:
    """The slopes over the steps from a tenth of the last on; NaN where fewer than two of them are above zero."""
    along = np.asarray(steps, dtype=np.float64)
    late = along >= along.max() / 10
    return Growth(*(_slope(along[late], np.asarray(held)[late]) for held in (norms, losses, gradients)))


def _slope(steps: Floats, values: Floats) -> float:
    known = (steps > 0) & (values > 0) & np.isfinite(values)
    if known.sum() < 2 or np.ptp(steps[known]) == 0:
        return math.nan
    return float(np.polyfit(np.log(steps[known]), np.log(values[known]), 1)[0])


@dataclass(frozen=True, eq=False)
class ToyDescent:
    """Gradient descent on the toy, at steps spread evenly over the decades: ``(T,)`` each.

    Attributes:
        steps: how many were made.
        a: the coefficient.
        b: the exponent.
        objective: its value.
        gradients: the norm of the gradient.
    """

    steps: Floats
    a: Floats
    b: Floats
    objective: Floats
    gradients: Floats


def descend_toy(
    *, num_steps: int, learning_rate: float, penalty: float = 1.0, a: float = 0.5, b: float = 0.0, num_points: int = 60
) -> ToyDescent:
    """Plain gradient descent on ``(a e^b - 1)^2 + penalty a^2 / 2``."""
    shown = sorted({round(10**power) for power in np.linspace(0, math.log10(num_steps), num_points)})
    rows, place = [], 0
    for step in range(1, num_steps + 1):
        grown = a * math.exp(b)
        slope = 2 * (grown - 1)
        down_a, down_b = slope * math.exp(b) + penalty * a, slope * grown
        a, b = a - learning_rate * down_a, b - learning_rate * down_b
        if step == shown[place]:
            value = (a * math.exp(b) - 1) ** 2 + penalty * a * a / 2
            rows.append((step, a, b, value, math.hypot(down_a, down_b)))
            place += 1
    return ToyDescent(*np.array(rows, dtype=np.float64).T)


@dataclass(frozen=True, eq=False)
class WithNeuron:
    """Descent of a network with an exponential unit, at steps spread evenly over the decades: ``(T,)`` each.

    Attributes:
        steps: how many were made.
        coefficients: a.
        norms: of (w, b).
        own_losses: of the network without the unit.
        objectives: of the network with it, penalty included.
        gradients: norms of the gradient of the objective.
    """

    steps: Floats
    coefficients: Floats
    norms: Floats
    own_losses: Floats
    objectives: Floats
    gradients: Floats


def descend_with_neuron(
    scores: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    point: Sequence[torch.Tensor],
    x: torch.Tensor,
    signs: torch.Tensor,
    *,
    penalty: float,
    learning_rate: float,
    num_steps: int,
    rng: Rng,
    num_points: int = 40,
) -> WithNeuron:
    """Gradient descent on ``mean max(0, 1 - y (f + a exp(w'x + b)))^3 + penalty a^2 / 2`` over all of f, a, w and b.

    The loss is a smooth monotone hinge, as the theorem asks for.

    Args:
        scores: f of all examples ``(N,)`` at a point.
        point: where f begins.
        x: ``(N, D)`` the inputs.
        signs: ``(N,)`` y, -1 or 1.
        penalty: lambda.
        learning_rate: of plain gradient descent.
        num_steps: gradients.
        rng: where the unit begins.
        num_points: steps that are recorded.
    """
    must_be_rng(rng)
    leaves = [value.detach().clone() for value in point]
    begin = 0.1 * torch.randn(x.shape[1] + 2, generator=rng.torch(), dtype=torch.float64).to(x)
    leaves += [begin[:1].clone(), begin[1:-1].clone(), begin[-1:].clone()]
    shown = sorted({round(10**power) for power in np.linspace(0, math.log10(num_steps), num_points)})
    rows, place = [], 0
    for step in range(1, num_steps + 1):
        with differentiating():
            held = [value.detach().requires_grad_() for value in leaves]
            own = scores(held[:-3])
            a, w, b = held[-3:]
            unit = a * torch.exp((x @ w + b).clamp(max=30.0))
            objective = (1 - signs * (own + unit)).clamp(min=0).pow(3).mean() + penalty / 2 * (a**2).sum()
            found = torch.autograd.grad(objective, held, allow_unused=True, materialize_grads=True)
        size = float(torch.cat([part.reshape(-1) for part in found]).norm())
        if not math.isfinite(size):
            break
        leaves = [value - learning_rate * part for value, part in zip(leaves, found, strict=True)]
        if step == shown[place]:
            alone = float((1 - signs * own.detach()).clamp(min=0).pow(3).mean())
            norm = float(torch.cat([leaves[-2], leaves[-1]]).norm())
            rows.append((step, float(leaves[-3][0]), norm, alone, float(objective.detach()), size))
            place = min(place + 1, len(shown) - 1)
    return WithNeuron(*np.array(rows, dtype=np.float64).reshape(-1, 6).T)
