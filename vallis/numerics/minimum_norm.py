"""Which of all linear models that fit is found: gradient descent from 0 ends at the one of least norm.

Every gradient of ``1/(2N) |X W - Y|^2`` is a combination of the rows of X. From 0 gradient descent, stochastic or with
momentum, therefore never leaves their span, and there only one W fits: ``X' (X X')^-1 Y``, of the least norm. A start
elsewhere keeps its part outside of the span; weight decay ends at the ridge solution; Adam divides each coordinate by a
number of its own and so leaves the span.

Source: Zhang et al. (2017), section 5, "appeal to linear models".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from vallis.core.errors import DataError
from vallis.core.rng import Rng, must_be_rng

# The rate of Adam falls from the first to the last of these, so that it settles.
_ADAM_RATES = (1e-2, 1e-6)
_CHECK_EVERY = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearSystem:
    """A linear model without bias that has more weights than examples, and what is known of its solutions.

    Attributes:
        x: ``(N, d)`` of rank N.
        y: ``(N, C)``.
        solution: ``(d, C)`` the weights of least norm that fit.
        curvatures: ``(N,)`` the eigenvalues of ``X X' / N``, descending.
        basis: ``(d, N)`` an orthonormal basis of the span of the rows of X.
    """

    x: torch.Tensor
    y: torch.Tensor
    solution: torch.Tensor
    curvatures: torch.Tensor
    basis: torch.Tensor

    @property
    def condition(self) -> float:
        """Of ``X X'``: gradient descent takes about as many steps for each factor e."""
        return float(self.curvatures[0] / self.curvatures[-1])

    def ridge(self, decay: float) -> torch.Tensor:
        """``(d, C)`` the minimum of ``1/(2N) |X W - Y|^2 + decay/2 |W|^2``."""
        n = len(self.x)
        within = self.x @ self.x.T / n + decay * torch.eye(n, dtype=self.x.dtype)
        dual: torch.Tensor = torch.linalg.solve(within, self.y)
        return self.x.T @ dual / n

    def limit_from(self, start: torch.Tensor) -> torch.Tensor:
        """``(d, C)`` where gradient descent from `start` ends: the least change that makes it fit."""
        return self.solution + start - self.basis @ (self.basis.T @ start)


@dataclass(frozen=True, kw_only=True, eq=False)
class Descent:
    """Where a training of the weights ended.

    Attributes:
        weights: ``(d, C)``.
        start: ``(d, C)`` where it began.
        steps: how many were taken.
        residual: ``|X W - Y| / |Y|``.
        converged: whether the rule to stop was met before the steps ran out.
    """

    weights: torch.Tensor
    start: torch.Tensor
    steps: int
    residual: float
    converged: bool

    def relative_difference(self, other: torch.Tensor) -> float:
        """``|W - other| / |other|``."""
        return float((self.weights - other).norm() / other.norm())

    def outside(self, system: LinearSystem) -> float:
        """The share of the length of W that lies outside of the span of the examples."""
        inside = system.basis @ (system.basis.T @ self.weights)
        return float((self.weights - inside).norm() / self.weights.norm())


def linear_system(x: torch.Tensor, y: torch.Tensor) -> LinearSystem:
    """The system of these examples.

    Args:
        x: ``(N, ...)`` inputs.
        y: ``(N, C)`` targets.

    Raises:
        DataError: there are not fewer independent examples than inputs, or all targets are 0.
    """
    x, y = x.reshape(len(x), -1).double(), y.double()
    if not 0 < len(x) < x.shape[1] or y.ndim != 2 or len(y) != len(x) or not bool(y.any()):
        raise DataError(
            f"fewer examples than inputs, with targets (N, C) that are not all 0, were required, {tuple(x.shape)} and "
            f"{tuple(y.shape)} came: take fewer examples"
        )
    u, values, v = torch.linalg.svd(x, full_matrices=False)
    if float(values[-1]) < 1e-10 * float(values[0]):
        raise DataError(
            f"linearly independent examples were required, {len(x)} of rank "
            f"{int((values > 1e-10 * values[0]).sum())} came: take fewer"
        )
    solution = v.T @ ((u.T @ y) / values[:, None])
    return LinearSystem(x=x, y=y, solution=solution, curvatures=values.square() / len(x), basis=v.T.contiguous())


def descend(
    system: LinearSystem,
    optimizer: Callable[[torch.Tensor], torch.optim.Optimizer],
    *,
    start: torch.Tensor | None = None,
    batch_size: int | None = None,
    max_steps: int = 20_000,
    tolerance: float = 1e-8,
    decay: float = 0.0,
    last_rate: float | None = None,
    rng: Rng | None = None,
) -> Descent:
    """Trains the weights with an optimizer of torch, in float64, until the gradient of the whole is small enough.

    It stops once the gradient, over the smallest curvature, is at most `tolerance` times the solution's norm: inside of
    the span the weights are then within that share of their limit.

    Args:
        system: what is to be fitted.
        optimizer: makes one for the weights.
        start: ``(d, C)``; None is 0.
        batch_size: examples a step, in a new random order every epoch; None is all.
        max_steps: the most.
        tolerance: see above.
        decay: the weight decay that the optimizer adds, which belongs to the gradient.
        last_rate: the learning rate falls to this, by the same factor every step; None leaves it.
        rng: orders the examples.
    """
    if rng is not None:
        must_be_rng(rng)
    start = torch.zeros_like(system.solution) if start is None else start.double()
    weights = start.clone()
    taken, rng = optimizer(weights), rng or Rng()
    n, rows = len(system.x), torch.arange(len(system.x))
    share = batch_size or n
    factor = 1.0 if last_rate is None else (last_rate / taken.param_groups[0]["lr"]) ** (1 / max_steps)
    enough = tolerance * float(system.solution.norm() * system.curvatures[-1])
    order, converged, step = rows, False, 0
    while step < max_steps and not converged:
        place = step * share % (-(-n // share) * share)
        if place == 0 and share < n:
            order = torch.randperm(n, generator=rng.child("order", step).torch())
        batch = order[place : place + share]
        x, y = (system.x, system.y) if share >= n else (system.x[batch], system.y[batch])
        weights.grad = x.T @ (x @ weights - y) / len(x)
        taken.step()
        for group in taken.param_groups:
            group["lr"] *= factor
        step += 1
        if step % _CHECK_EVERY == 0:
            slope = system.x.T @ (system.x @ weights - system.y) / n + decay * weights
            converged = float(slope.norm()) <= enough
    residual = float((system.x @ weights - system.y).norm() / system.y.norm())
    return Descent(weights=weights.detach(), start=start, steps=step, residual=residual, converged=converged)


def compare(
    system: LinearSystem, *, decay: float, std_start: float, max_steps: int, tolerance: float, rng: Rng
) -> Mapping[str, Descent]:
    """The ways of training that section 5 tells apart, each to its end.

    Args:
        system: what is to be fitted.
        decay: of "weight_decay".
        std_start: of the Gaussian weights that "random_start" begins with.
        max_steps: the most steps of each.
        tolerance: see `descend`.
        rng: for the order of the examples and the random start.

    Returns:
        "gradient_descent", "stochastic", "momentum", "random_start", "weight_decay" and "adam".
    """
    must_be_rng(rng)
    largest, smallest = (float(system.curvatures[place]) for place in (0, -1))
    # The best rates for a known spectrum: of heavy-ball momentum, and of the steepest descent that it hastens.
    rate = 4 / (largest**0.5 + smallest**0.5) ** 2
    momentum = ((largest**0.5 - smallest**0.5) / (largest**0.5 + smallest**0.5)) ** 2
    start = std_start * torch.randn(system.solution.shape, generator=rng.child("start").torch(), dtype=torch.float64)
    size = max(1, len(system.x) // 4)
    steepest = float(system.x.square().sum(1).max())

    def descent(
        rate: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> Callable[[torch.Tensor], torch.optim.Optimizer]:
        return lambda weights: torch.optim.SGD([weights], lr=rate, momentum=momentum, weight_decay=weight_decay)

    def adam(weights: torch.Tensor) -> torch.optim.Optimizer:
        return torch.optim.Adam([weights], lr=_ADAM_RATES[0])

    run = partial(descend, system, max_steps=max_steps, tolerance=tolerance, rng=rng)
    return {
        "gradient_descent": run(descent(2 / (largest + smallest))),
        "stochastic": run(descent(1 / steepest), batch_size=size),
        "momentum": run(descent(rate, momentum=momentum)),
        "random_start": run(descent(rate, momentum=momentum), start=start),
        "weight_decay": run(descent(2 / (largest + smallest + 2 * decay), weight_decay=decay), decay=decay),
        "adam": run(adam, last_rate=_ADAM_RATES[1]),
    }
