"""The bound holds where the true error is known in closed form, as often as it says, step by step."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from tests.numerics.solutions import built, held, mlp, random, regression, tokens
from vallis.core.errors import LossError, SettingsError
from vallis.core.losses import BinaryCrossEntropy
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.axes import Axes
from vallis.numerics.certificate import certify, errors_of_examples, on_the_grid, wrong
from vallis.numerics.kl_inverse import kl_inverse
from vallis.numerics.posterior import Fitting, Posterior, fit, penalty, start

RNG = Rng(0)
DISTANCE = 2.5


def clouds(seed: int, num_examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two Gaussian clouds in the plane: the labels are not free of error."""
    generator = Rng(seed).child("clouds").torch()
    y = torch.randint(2, (num_examples,), generator=generator)
    x = torch.randn(num_examples, 2, generator=generator, dtype=torch.float64)
    x[:, 0] += DISTANCE * (y.double() - 0.5)
    return x, y


def linear(seed: int, num_examples: int) -> Solution:
    """A linear classifier of them, with weights from a few steps of descent."""
    x, y = clouds(seed, num_examples)
    module = nn.Linear(2, 1).double()
    with torch.no_grad():
        module.weight.zero_()
        module.bias.zero_()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(module(x)[:, 0], y.double()).backward()
        optimizer.step()
    return held(module, x, y, BinaryCrossEntropy(), batch_size=1000)


def true_error(points: torch.Tensor) -> torch.Tensor:
    """``(K,)`` the exact error of linear classifiers ``(K, 3)`` on the clouds: ``Phi(-margin / |w|)`` of each class."""
    w, b = points[:, :2], points[:, 2]
    mean = w[:, 0] * DISTANCE / 2
    length = w.norm(dim=1)
    normal = torch.distributions.Normal(0.0, 1.0)
    return (normal.cdf(-(mean + b) / length) + normal.cdf(-(mean - b) / length)) / 2


def posterior_of(
    solution: Solution, epochs: int = 30, seed: int = 0, learning_rate: float = 1e-2
) -> tuple[Objective, Posterior]:
    objective = Objective(solution)
    begin = start(objective, torch.zeros(objective.num_parameters), Axes())
    fitting = Fitting(epochs=epochs, learning_rate=learning_rate, batch_size=50)
    found = fit(objective, begin, fitting=fitting, failure=0.025, factor=1 / math.log(2), rng=Rng(seed))
    return objective, found


def gibbs_error(posterior: Posterior, seed: int = 1) -> float:
    """The true error of a network drawn from it, to four digits."""
    noise = torch.randn(20_000, 3, generator=Rng(seed).torch(), dtype=torch.float64)
    return float(true_error(posterior.mean + posterior.log_std.exp() * noise).mean())


@pytest.mark.slow
def test_the_bound_holds_on_new_training_sets() -> None:
    """Of 60 sets it may fail on 2.1; bounds are loose, so it is to fail on none, and yet to say more than guessing."""
    bounds, errors = [], []
    for seed in range(60):
        objective, posterior = posterior_of(linear(seed, 400), epochs=8, seed=seed, learning_rate=0.05)
        found = certify(
            objective, posterior, num_draws=500, batch_size=30, failure=0.025, draws_failure=0.01, rng=Rng(seed)
        )
        bounds.append(found.bound)
        errors.append(gibbs_error(posterior))
    assert all(error < bound for error, bound in zip(errors, bounds, strict=True))
    assert np.mean(bounds) < 0.4


def test_more_examples_tighten_it_to_something_useful() -> None:
    bounds = []
    for size in (50, 500, 5000):
        objective, posterior = posterior_of(linear(3, size), epochs=40)
        found = certify(objective, posterior, num_draws=4000, batch_size=50, failure=0.025, draws_failure=0.01, rng=RNG)
        bounds.append(found.bound)
    assert bounds[0] > bounds[1] > bounds[2]
    assert bounds[2] < 0.2
    assert bounds[2] > 0.5 * math.erfc(DISTANCE / 2 / math.sqrt(2))  # no classifier errs less


def test_the_error_over_draws_is_bounded_as_often_as_it_says() -> None:
    """Few draws, 200 repeats: step 2 alone, against the error of all draws on all examples."""
    objective, posterior = posterior_of(linear(0, 40), epochs=2)
    true = float(errors_of_examples(objective, posterior, num_draws=20_000, rng=RNG).mean())
    failure = 0.2
    found = [
        certify(objective, posterior, num_draws=8, batch_size=1, failure=0.025, draws_failure=failure, rng=Rng(seed))
        for seed in range(200)
    ]
    missed = sum(one.train_error_at_most < true for one in found)
    assert missed <= int(stats.binom.ppf(0.999, 200, failure))
    means = np.array([one.train_error for one in found])
    assert abs(means.mean() - true) < 4 * means.std() / 200**0.5
    assert all(one.train_error_at_most > one.train_error for one in found)


def test_the_steps_are_put_together_as_the_paper_does() -> None:
    objective, posterior = posterior_of(linear(1, 200))
    found = certify(objective, posterior, num_draws=500, batch_size=20, failure=0.025, draws_failure=0.01, rng=RNG)
    j = 100 * (math.log(0.1) - math.log(found.prior_variance))
    assert j == pytest.approx(round(j), abs=1e-9)
    assert round(j) >= 1
    assert found.divergence == pytest.approx(posterior.divergence(found.prior_variance), rel=1e-12)
    squared = (found.divergence + 2 * math.log(round(j)) + math.log(math.pi**2 * 200 / (6 * 0.025))) / 199
    assert 2 * found.penalty**2 == pytest.approx(squared, rel=1e-12)
    at_most = kl_inverse(found.train_error, math.log(200) / 500)
    assert found.train_error_at_most == at_most
    assert found.bound == kl_inverse(at_most, squared) == pytest.approx(kl_inverse(at_most, 2 * found.penalty**2))


@pytest.mark.parametrize("rho", [-3.003, -1.2, -1.156, -20.0])
def test_of_the_two_neighbours_on_the_grid_the_better_is_taken(rho: float) -> None:
    _, posterior = posterior_of(linear(1, 200), epochs=1)
    posterior = replace(posterior, log_std_prior=rho)
    variance, divergence, size = on_the_grid(posterior, 200, 0.025)
    assert variance <= 0.1 * math.exp(-0.01) * (1 + 1e-12)
    assert math.log(variance) == pytest.approx(2 * rho, abs=0.0101)
    for by in (-0.01, 0.01):
        other = math.log(variance) + by
        if abs(other - 2 * rho) <= 0.01 and other <= math.log(0.1) - 0.01:
            assert size <= penalty(posterior.divergence(math.exp(other)), other / 2, 200, 0.025) + 1e-12
    assert divergence == pytest.approx(posterior.divergence(variance))


def test_errors_count_wrong_answers_and_what_is_no_number_is_wrong() -> None:
    solution = mlp(double=True)
    objective = Objective(solution)
    (batch,) = solution.task.splits["train"].in_batches_of(100)
    outputs = solution.net.module(batch.x).detach()
    expected = outputs.argmax(1) != batch.y
    assert torch.equal(wrong(objective, objective.origin, batch), expected)
    broken = tuple(torch.full_like(value, torch.nan) for value in objective.origin)
    assert bool(wrong(objective, broken, batch).all())
    zero = tuple(torch.zeros_like(value) for value in objective.origin)
    assert bool(wrong(objective, zero, batch).all())  # a tie


def test_each_examples_error_over_draws() -> None:
    objective, posterior = posterior_of(linear(0, 40), epochs=2)
    found = errors_of_examples(objective, posterior, num_draws=400, rng=RNG)
    assert found.shape == (40,)
    assert ((found >= 0) & (found <= 1)).all()
    still = replace(posterior, log_std=torch.full((3,), -50.0, dtype=torch.float64))
    (batch,) = objective.batches()
    expected = wrong(objective, objective.point(posterior.mean), batch).double().numpy()
    np.testing.assert_array_equal(errors_of_examples(objective, still, num_draws=3, rng=RNG), expected)


def test_without_one_class_an_example_there_is_no_error() -> None:
    for solution in (regression(), tokens()):
        objective = Objective(solution)
        begin = start(objective, torch.zeros(objective.num_parameters), Axes())
        with pytest.raises(LossError, match="classifies each example once"):
            certify(objective, begin, num_draws=1, batch_size=4, failure=0.1, draws_failure=0.1, rng=RNG)


def test_a_network_that_knows_nothing_has_a_bound_of_no_use() -> None:
    x = random(80, 2).double()
    y = torch.randint(2, (80,), generator=Rng(2).torch())
    module = built(lambda: nn.Sequential(nn.Linear(2, 40), nn.Tanh(), nn.Linear(40, 1))).double()
    objective, posterior = posterior_of(held(module, x, y, BinaryCrossEntropy(), batch_size=100), epochs=5)
    found = certify(objective, posterior, num_draws=200, batch_size=40, failure=0.025, draws_failure=0.01, rng=RNG)
    assert 0.5 < found.bound <= 1


@pytest.mark.parametrize(
    "bad", [{"num_draws": 0}, {"failure": 0.0}, {"failure": 1.0}, {"draws_failure": 0.0}, {"draws_failure": 2.0}]
)
def test_impossible_settings_are_refused(bad: dict[str, float]) -> None:
    objective, posterior = posterior_of(linear(0, 20), epochs=0)
    settings = {"num_draws": 5, "batch_size": 5, "failure": 0.025, "draws_failure": 0.01, **bad}
    with pytest.raises(SettingsError, match=next(iter(bad))):
        certify(objective, posterior, rng=RNG, **settings)  # type: ignore[arg-type]
