"""Gaussian distributions over the weights of a network, and how to find one that is both wide and good.

The prior is N(w_0, lambda I) around weights that the data did not choose; the posterior N(w, Q' diag(e^{2s}) Q) around
those that it did, along orthonormal axes Q. As the prior is round, their divergence is the same formula for all axes::

    KL = 1/2 [ sum_i e^{2 s_i} / lambda + |w - w_0|^2 / lambda - P + P log lambda - 2 sum_i s_i ].

Source: Dziugaite and Roy (2017), sections 3 and 4; Wu et al. (2020), Dissecting Hessian, section 5 (other axes).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import SettingsError
from vallis.core.functional import differentiating
from vallis.core.objective import Objective
from vallis.core.progress import track
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Batch
from vallis.numerics.axes import Axes
from vallis.numerics.minibatches import Minibatches

# The variance of the prior lies on the grid LARGEST_VARIANCE e^{-j / GRID}, j = 1, 2, ...
LARGEST_VARIANCE, GRID = 0.1, 100
FIRST_LOG_STD_PRIOR = -3.0
_SMALLEST_LOG_STD_PRIOR = -40.0
_LARGEST_LOG_STD_PRIOR = 0.5 * (math.log(LARGEST_VARIANCE) - 1 / GRID)
_DEAD = 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """A Gaussian around a network, and the prior it is compared with.

    Attributes:
        mean: ``(P,)`` w.
        log_std: ``(P,)`` s, along the axes.
        axes: Q.
        prior_mean: ``(P,)`` w_0.
        log_std_prior: rho, half the logarithm of lambda.
        objectives: ``(E,)`` what was minimised, its mean over each epoch.
    """

    mean: torch.Tensor
    log_std: torch.Tensor
    axes: Axes
    prior_mean: torch.Tensor
    log_std_prior: float
    objectives: NDArray[np.float64]

    def weights(self, noise: torch.Tensor) -> torch.Tensor:
        """``(P,)`` the weights for standard normal noise ``(P,)``."""
        return self.mean + self.axes.back(self.log_std.exp() * noise)

    def divergence(self, prior_variance: float | None = None) -> float:
        """KL in nats, in float64, for the prior's own variance or another."""
        variance = math.exp(2 * self.log_std_prior) if prior_variance is None else prior_variance
        s = self.log_std.double()
        spread = float((2 * s).exp().sum() + (self.mean.double() - self.prior_mean.double()).square().sum())
        size = len(s)
        return 0.5 * (spread / variance - size + size * math.log(variance) - 2 * float(s.sum()))


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How a posterior is found: RMSprop on loss and penalty, one draw of the weights a step.

    Attributes:
        epochs: passes over the examples.
        batch_size: examples a step.
        learning_rate: of RMSprop (with decay 0.9), for w, s and rho alike.
        decay: the rate is multiplied by this ...
        decay_every: ... after each so many epochs.
        refresh_every: the axes are computed anew after each so many epochs, where they are to follow the mean.
    """

    epochs: int = 100
    batch_size: int = 100
    learning_rate: float = 1e-3
    decay: float = 0.1
    decay_every: int = 400
    refresh_every: int = 10

    def __post_init__(self) -> None:
        for name in ("batch_size", "decay_every", "refresh_every", "learning_rate", "decay"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} above 0 was required, {getattr(self, name)} came: raise it")
        if self.epochs < 0:
            raise SettingsError(f"epochs of at least 0 were required, {self.epochs} came: raise them")


def start(objective: Objective, prior_mean: torch.Tensor, axes: Axes) -> Posterior:
    """Where fitting begins: along each axis as wide as the network's own coordinate is long.

    A coordinate of zero has no length to go by, as that of a dead input may; it gets the width of the prior.
    """
    mean = objective.vector(objective.origin).detach().clone()
    lengths = axes.turn(mean).abs()
    log_std = torch.where(lengths > _DEAD, lengths.clamp(min=_DEAD).log(), FIRST_LOG_STD_PRIOR)
    return Posterior(
        mean=mean,
        log_std=log_std,
        axes=axes,
        prior_mean=prior_mean.to(mean),
        log_std_prior=FIRST_LOG_STD_PRIOR,
        objectives=np.empty(0),
    )


def penalty(divergence: float, log_std_prior: float, num_examples: int, failure: float) -> float:
    """``B = sqrt((KL + 2 log(b log(c / lambda)) + log(pi^2 m / (6 delta))) / (2 (m - 1)))``.

    The union bound over the grid of lambda is the middle term; ``log(c / lambda)`` is kept away from zero.
    """
    place = GRID * max(math.log(LARGEST_VARIANCE) - 2 * log_std_prior, 1 / GRID)
    rest = 2 * math.log(place) + math.log(math.pi**2 * num_examples / (6 * failure))
    return math.sqrt(max(0.0, divergence + rest) / (2 * max(1, num_examples - 1)))


def fit(
    objective: Objective,
    begin: Posterior,
    *,
    fitting: Fitting,
    failure: float,
    factor: float,
    rng: Rng,
    refreshed: Callable[[torch.Tensor], Axes] | None = None,
    label: str = "posterior",
) -> Posterior:
    """Minimises ``E factor loss(w + Q'(e^s noise)) + B(w, s, rho)`` over w, s and rho.

    Args:
        objective: the loss.
        begin: see `start`.
        fitting: how long and how fast.
        failure: the delta in B.
        factor: of the loss, so that it lies above the error: 1 / log 2 for two classes.
        rng: orders the examples and draws the noise.
        refreshed: the axes at another mean; None keeps those of the start.
        label: what the progress bar says.
    """
    must_be_rng(rng)
    with differentiating():
        return _fitted(objective, begin, fitting, failure, factor, rng, refreshed, label)


def _fitted(
    objective: Objective,
    begin: Posterior,
    fitting: Fitting,
    failure: float,
    factor: float,
    rng: Rng,
    refreshed: Callable[[torch.Tensor], Axes] | None,
    label: str,
) -> Posterior:
    mean, log_std = begin.mean.clone(), begin.log_std.clone()
    rho = torch.tensor(begin.log_std_prior, dtype=torch.float64)
    optimizer = torch.optim.RMSprop([mean, log_std, rho], lr=fitting.learning_rate, alpha=0.9)
    examples = Minibatches(objective, fitting.batch_size)
    here, objectives = begin, np.empty(fitting.epochs)
    for epoch in track(range(fitting.epochs), label, fitting.epochs):
        if refreshed is not None and epoch and epoch % fitting.refresh_every == 0:
            here = replace(here, axes=refreshed(mean))
        optimizer.param_groups[0]["lr"] = fitting.learning_rate * fitting.decay ** (epoch // fitting.decay_every)
        generator, found = rng.child("noise", epoch).torch(), []
        for batch in examples.epoch(rng.child("order", epoch)):
            here = replace(here, mean=mean, log_std=log_std, log_std_prior=float(rho))
            value, slopes = slopes_of(objective, here, batch, _noise(mean, generator), failure, factor)
            mean.grad, log_std.grad, rho.grad = slopes[0], slopes[1], slopes[2].to(rho)
            optimizer.step()
            rho.clamp_(_SMALLEST_LOG_STD_PRIOR, _LARGEST_LOG_STD_PRIOR)
            found.append((len(batch), value))
        objectives[epoch] = sum(size * value for size, value in found) / sum(size for size, _ in found)
    mean, log_std = mean.detach(), log_std.detach()  # without the gradients of the last step
    return replace(here, mean=mean, log_std=log_std, log_std_prior=float(rho), objectives=objectives)


def slopes_of(
    objective: Objective, here: Posterior, batch: Batch, noise: torch.Tensor, failure: float, factor: float
) -> tuple[float, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """What a step minimises for one batch and one draw of noise ``(P,)``, and its derivatives by w, s and rho.

    Where the weights that were drawn have no finite loss, only the penalty counts.
    """
    along = here.log_std.exp() * noise
    value, slope = _loss(objective, batch, here.mean + here.axes.back(along))
    if not math.isfinite(value) or not bool(slope.isfinite().all()):
        value, slope = 0.0, torch.zeros_like(here.mean)
    num_examples = len(objective.data)
    size = penalty(here.divergence(), here.log_std_prior, num_examples, failure)
    each = 1 / max(4 * max(1, num_examples - 1) * size, torch.finfo(torch.float64).tiny)  # dB/dKL
    variance = math.exp(2 * here.log_std_prior)
    away, widths = here.mean - here.prior_mean, (2 * here.log_std).exp() / variance
    by_mean = factor * slope + away * (each / variance)
    by_log_std = factor * here.axes.turn(slope) * along + (widths - 1) * each
    spread = float(widths.double().sum() + away.double().square().sum() / variance)
    room = max(math.log(LARGEST_VARIANCE) - 2 * here.log_std_prior, 1 / GRID)
    by_rho = each * (len(widths) - spread - 4 / room)
    return factor * value + size, (by_mean, by_log_std, torch.tensor(by_rho, dtype=torch.float64))


def _loss(objective: Objective, batch: Batch, weights: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The mean loss of a batch at some weights, and its gradient ``(P,)``."""
    with differentiating():
        at = [part.detach().requires_grad_() for part in objective.point(weights)]
        loss = objective.loss.mean(objective.outputs_at(at, batch), batch.y)
        found = torch.autograd.grad(loss, at, allow_unused=True, materialize_grads=True)
    return float(loss.detach()), objective.vector(found)


def _noise(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal numbers, drawn on the CPU: the same for every device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device="cpu").to(like.device)
