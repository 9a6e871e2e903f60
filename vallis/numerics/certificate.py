"""What a PAC-Bayes bound certifies: the error on new examples of a network drawn from a posterior.

1. The prior's variance is put on the grid ``c e^{-j/b}``, over which the bound holds at once.
2. The error of drawn networks on the training examples is measured with some draws, and its true value bounded from
   them: ``kl(measured || true) <= log(2 / delta') / draws``. It counts wrong answers, never a surrogate loss.
3. The error on new examples follows: ``kl(training || new) <= 2 B^2``.

Source: Dziugaite and Roy (2017), sections 2.2 and 3; Langford and Caruana (2001), theorem 2.5 (step 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import LossError, SettingsError
from vallis.core.objective import Objective
from vallis.core.progress import track
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Batch
from vallis.numerics.kl_inverse import kl_inverse
from vallis.numerics.minibatches import Minibatches
from vallis.numerics.posterior import GRID, LARGEST_VARIANCE, Posterior, penalty
from vallis.numerics.scores import judge

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A bound and what it is made of.

    Attributes:
        bound: the error on new examples is at most this, with probability at least 1 - failure - draws_failure.
        train_error: the share of wrong answers of the networks that were drawn.
        train_error_at_most: what it can be for all networks that could be drawn.
        divergence: KL of posterior and prior, in nats.
        prior_variance: lambda, on the grid.
        penalty: B.
        num_draws: how many networks were drawn.
    """

    bound: float
    train_error: float
    train_error_at_most: float
    divergence: float
    prior_variance: float
    penalty: float
    num_draws: int


def certify(
    objective: Objective,
    posterior: Posterior,
    *,
    num_draws: int,
    batch_size: int,
    failure: float,
    draws_failure: float,
    rng: Rng,
) -> Certificate:
    """The bound for a posterior. It holds for any, however it was found, if the prior's mean did not see the data.

    Args:
        objective: over the m training examples.
        posterior: with its prior.
        num_draws: networks drawn, each asked for a random batch of examples: all answers are independent draws.
        batch_size: of that batch.
        failure: delta, the chance over training sets that the bound fails.
        draws_failure: delta', the chance over draws.
        rng: where networks and batches come from.

    Raises:
        SettingsError: there is no draw, or a chance is not within (0, 1).
        LossError: nothing is classified.
    """
    must_be_rng(rng)
    if num_draws < 1 or not 0 < failure < 1 or not 0 < draws_failure < 1:
        raise SettingsError(
            f"at least one draw, and chances within (0, 1), were required, num_draws={num_draws}, failure={failure}, "
            f"draws_failure={draws_failure} came: change them"
        )
    variance, divergence, size = on_the_grid(posterior, len(objective.data), failure)
    error = _train_error(objective, posterior, Minibatches(objective, batch_size), num_draws, rng)
    at_most = kl_inverse(error, math.log(2 / draws_failure) / num_draws)
    return Certificate(
        bound=kl_inverse(at_most, 2 * size**2),
        train_error=error,
        train_error_at_most=at_most,
        divergence=divergence,
        prior_variance=variance,
        penalty=size,
        num_draws=num_draws,
    )


def on_the_grid(posterior: Posterior, num_examples: int, failure: float) -> tuple[float, float, float]:
    """The neighbour on the grid with the smaller penalty: its variance, KL and B."""
    place = GRID * (math.log(LARGEST_VARIANCE) - 2 * posterior.log_std_prior)
    found = []
    for j in {max(1, math.floor(place)), max(1, math.ceil(place))}:
        log_variance = math.log(LARGEST_VARIANCE) - j / GRID
        divergence = posterior.divergence(math.exp(log_variance))
        found.append((penalty(divergence, log_variance / 2, num_examples, failure), divergence, math.exp(log_variance)))
    size, divergence, variance = min(found)
    return variance, divergence, size


def errors_of_examples(objective: Objective, posterior: Posterior, *, num_draws: int, rng: Rng) -> Floats:
    """``(N,)`` how often networks drawn from the posterior answer each example of a split wrongly.

    Raises:
        LossError: nothing is classified.
    """
    must_be_rng(rng)
    batches, total = list(objective.batches()), np.zeros(len(objective.data))
    draw = _drawer(posterior, rng.child("draws"))
    for _ in track(range(num_draws), "drawn networks", num_draws):
        point = objective.point(draw())
        total += np.concatenate([wrong(objective, point, batch).double().cpu().numpy() for batch in batches])
    return total / num_draws


def wrong(objective: Objective, point: tuple[torch.Tensor, ...], batch: Batch) -> torch.Tensor:
    """``(N,)`` bool, which examples of a batch are answered wrongly; a tie, and what is no number, is wrong.

    Raises:
        LossError: there is not one class an example.
    """
    with torch.no_grad():
        judged = judge(objective.loss, objective.outputs_at(point, batch), batch.y)
    if judged is None or len(judged.margins) != len(batch):
        raise LossError(
            "a loss that classifies each example once was required for an error, this one does not: "
            "use cross-entropy with one class an example"
        )
    return ~(judged.margins > 0)


def _train_error(objective: Objective, posterior: Posterior, examples: Minibatches, num_draws: int, rng: Rng) -> float:
    draw, generator, total = _drawer(posterior, rng.child("draws")), rng.child("examples").torch(), 0.0
    for _ in track(range(num_draws), "drawn networks", num_draws):
        batch = examples.sample(generator)
        total += float(wrong(objective, objective.point(draw()), batch).double().mean())
    return min(1.0, total / num_draws)


def _drawer(posterior: Posterior, rng: Rng) -> Callable[[], torch.Tensor]:
    generator, mean = rng.torch(), posterior.mean

    def draw() -> torch.Tensor:
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device="cpu")
        return posterior.weights(noise.to(mean.device))

    return draw
