"""KL against torch's own and in rotated axes, the gradient of the objective against autograd, and what fitting does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from tests.numerics.solutions import binary, dead_relu, mlp
from vallis.core.errors import SettingsError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Batch, Solution
from vallis.numerics.axes import Axes, Block, kronecker_axes
from vallis.numerics.kronecker import factors
from vallis.numerics.posterior import LARGEST_VARIANCE, Fitting, Posterior, fit, penalty, slopes_of, start
from vallis.testing.oracles import dense_loss

RNG = Rng(0)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int, seed: int = 5) -> torch.Tensor:
    return torch.linalg.qr(drawn(size, size, seed=seed)).Q


def some(size: int = 6, axes: Axes | None = None) -> Posterior:
    return Posterior(
        mean=drawn(size),
        log_std=-1 + 0.3 * drawn(size, seed=1),
        axes=axes or Axes(),
        prior_mean=drawn(size, seed=2),
        log_std_prior=-0.7,
        objectives=np.empty(0),
    )


def turned() -> Axes:
    return Axes([Block(start=0, outputs=rotation(6))])


@pytest.mark.parametrize("axes", [Axes(), turned()])
def test_the_divergence_is_that_of_dense_gaussians(axes: Axes) -> None:
    here = some(axes=axes)
    q = torch.stack([axes.turn(unit) for unit in torch.eye(6, dtype=torch.float64)], dim=1)
    covariance = q.T @ torch.diag((2 * here.log_std).exp()) @ q
    for variance in (math.exp(-1.4), 0.3):
        prior = MultivariateNormal(here.prior_mean, variance * torch.eye(6, dtype=torch.float64))
        true = float(kl_divergence(MultivariateNormal(here.mean, covariance), prior))
        found = here.divergence() if variance != 0.3 else here.divergence(0.3)
        assert found == pytest.approx(true, rel=1e-12)


def test_the_divergence_does_not_see_the_axes() -> None:
    assert some(axes=turned()).divergence() == some().divergence()


def test_the_weights_drawn_have_the_covariance_that_is_said() -> None:
    here = some(axes=turned())
    points = torch.stack([here.weights(noise) for noise in drawn(40_000, 6, seed=3)])
    q = rotation(6)
    covariance = q.T @ torch.diag((2 * here.log_std).exp()) @ q
    assert float((points.mean(0) - here.mean).abs().max()) < 4 * float(covariance.diag().max().sqrt()) / 200
    assert float((points.T.cov() - covariance).abs().max()) < 0.04 * float(covariance.abs().max())


def test_no_divergence_from_itself() -> None:
    here = replace(some(), log_std=torch.full((6,), -0.7, dtype=torch.float64))
    same = replace(here, mean=here.prior_mean)
    assert same.divergence() == pytest.approx(0.0, abs=1e-12)
    assert here.divergence() > 0


def test_the_penalty_is_the_formula_and_never_nan() -> None:
    rho, m = -1.5, 1000
    by_hand = 500 + 2 * math.log(100 * math.log(0.1 / math.exp(2 * rho)))
    by_hand = math.sqrt((by_hand + math.log(math.pi**2 * m / (6 * 0.025))) / (2 * (m - 1)))
    assert penalty(500, rho, m, 0.025) == pytest.approx(by_hand, rel=1e-12)
    for extreme in (0.5 * math.log(LARGEST_VARIANCE), 3.0, -50.0):
        assert math.isfinite(penalty(10.0, extreme, 50, 0.025))
    assert math.isfinite(penalty(10.0, -1.5, 1, 0.025))


def objective_by_autograd(
    solution: Solution, here: Posterior, q: torch.Tensor, noise: torch.Tensor, failure: float
) -> tuple[float, list[torch.Tensor]]:
    """The formula of the card, written down once more, and left to autograd."""
    m = len(solution.task.splits["train"])
    w, s = here.mean.clone().requires_grad_(), here.log_std.clone().requires_grad_()
    rho = torch.tensor(here.log_std_prior, dtype=torch.float64, requires_grad=True)
    lam, d = (2 * rho).exp(), len(w)
    kl = 0.5 * ((2 * s).exp().sum() / lam + ((w - here.prior_mean) ** 2).sum() / lam - d + d * lam.log() - 2 * s.sum())
    top = kl + 2 * torch.log(100 * torch.log(0.1 / lam)) + math.log(math.pi**2 * m / (6 * failure))
    value = dense_loss(solution, w + q.T @ (s.exp() * noise)) / math.log(2) + (top / (2 * (m - 1))).sqrt()
    return float(value.detach()), list(torch.autograd.grad(value, [w, s, rho]))


@pytest.mark.parametrize("basis", ["standard", "curvature"])
@pytest.mark.parametrize("make", [lambda: mlp(double=True), binary])
def test_the_gradient_is_that_of_the_formula(basis: str, make: object) -> None:
    solution = make()  # type: ignore[operator]
    objective = Objective(solution, dtype=torch.float64)
    axes = Axes() if basis == "standard" else kronecker_axes(objective, factors(objective))
    size = objective.num_parameters
    begin = start(objective, 0.3 * drawn(size, seed=8), axes)
    here = replace(begin, log_std=begin.log_std - 1, log_std_prior=-1.9)
    noise = drawn(size, seed=9)
    (batch,) = solution.task.splits["train"].in_batches_of(100)
    batch = Batch(x=batch.x.double(), y=batch.y, index=batch.index)
    value, slopes = slopes_of(objective, here, batch, noise, 0.025, 1 / math.log(2))
    q = torch.stack([axes.turn(unit) for unit in torch.eye(size, dtype=torch.float64)], dim=1)
    true, expected = objective_by_autograd(solution, here, q, noise, 0.025)
    assert value == pytest.approx(true, rel=1e-10)
    for found, wanted in zip(slopes, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-11)


def test_it_begins_as_wide_as_the_network_is_long_along_each_axis() -> None:
    objective = Objective(mlp(double=True))
    axes = kronecker_axes(objective, factors(objective))
    begin = start(objective, torch.zeros(61), axes)
    lengths = axes.turn(objective.vector(objective.origin)).abs()
    torch.testing.assert_close(begin.log_std.exp(), lengths)
    assert begin.log_std_prior == -3.0
    assert begin.prior_mean.dtype == torch.float64


def test_weights_of_zero_and_dead_inputs_give_finite_numbers() -> None:
    solution = dead_relu()
    solution.params["0.weight"][:, 0] = 0.0
    solution.params["2.bias"].zero_()
    objective = Objective(solution)
    begin = start(objective, torch.zeros(objective.num_parameters), Axes())
    assert bool(begin.log_std.isfinite().all())
    assert int((begin.log_std == -3.0).sum()) >= 9
    for axes in (Axes(), kronecker_axes(objective, factors(objective))):
        begin = start(objective, torch.zeros(objective.num_parameters), axes)
        found = fit(objective, begin, fitting=Fitting(epochs=5), failure=0.025, factor=1.0, rng=RNG)
        assert bool(found.mean.isfinite().all())
        assert bool(found.log_std.isfinite().all())
        assert bool(np.isfinite(found.objectives).all())


def test_fitting_lowers_what_it_minimises_and_is_deterministic() -> None:
    solution = mlp(double=True)
    objective = Objective(solution)
    begin = start(objective, torch.zeros(61), Axes())
    fitting = Fitting(epochs=300, batch_size=6, learning_rate=1e-2)
    found, again = (fit(objective, begin, fitting=fitting, failure=0.025, factor=1.0, rng=RNG) for _ in range(2))
    with torch.inference_mode():
        other = fit(objective, begin, fitting=fitting, failure=0.025, factor=1.0, rng=RNG)
    assert torch.equal(found.mean, again.mean)
    assert torch.equal(found.mean, other.mean)
    assert torch.equal(found.log_std, again.log_std)
    assert found.objectives[-30:].mean() < 0.8 * found.objectives[:30].mean()
    assert torch.equal(begin.mean, objective.vector(objective.origin))  # where it began is left alone
    assert torch.equal(solution.params["0.weight"], mlp(double=True).params["0.weight"])
    assert found.log_std_prior <= 0.5 * math.log(LARGEST_VARIANCE)


def test_weights_that_no_example_needs_go_to_the_prior() -> None:
    """Nothing but the penalty pulls at them, so their mean and their width become the prior's."""
    solution = dead_relu()  # three hidden units never fire
    objective = Objective(solution, dtype=torch.float64)
    size = objective.num_parameters
    fitting = Fitting(epochs=2000, batch_size=17, learning_rate=3e-3, decay_every=1500)
    alive = solution.params["0.weight"].abs()
    found = fit(objective, start(objective, torch.zeros(size), Axes()), fitting=fitting, failure=0.025, factor=1.0,
                rng=RNG)  # fmt: skip
    dead = slice(0, 6)  # the rows of the first weight that belong to them
    assert float(found.mean[dead].abs().max()) < 0.1 * float(alive[:3].abs().max())
    assert float((found.log_std[dead] - found.log_std_prior).abs().max()) < 0.15


def test_axes_follow_the_mean_every_so_many_epochs() -> None:
    objective = Objective(mlp(double=True))
    asked: list[torch.Tensor] = []

    def refreshed(mean: torch.Tensor) -> Axes:
        asked.append(mean.clone())
        return kronecker_axes(objective, factors(objective))

    begin = start(objective, torch.zeros(61), Axes())
    fitting = Fitting(epochs=25, refresh_every=10)
    found = fit(objective, begin, fitting=fitting, failure=0.025, factor=1.0, rng=RNG, refreshed=refreshed)
    assert len(asked) == 2
    assert not torch.equal(asked[0], asked[1])
    assert len(found.axes.blocks) == 6


def test_a_loss_that_is_infinite_for_some_draws_does_not_spoil_the_rest() -> None:
    solution = mlp()
    objective = Objective(solution)
    begin = start(objective, torch.zeros(61), Axes())
    wild = replace(begin, log_std=torch.full((61,), 60.0))
    (batch,) = solution.task.splits["train"].in_batches_of(100)
    value, slopes = slopes_of(objective, wild, batch, torch.ones(61), 0.025, 1.0)
    assert math.isfinite(value) or value == math.inf
    assert bool(slopes[0].isfinite().all())


def test_no_epochs_leave_the_start() -> None:
    objective = Objective(mlp())
    begin = start(objective, torch.zeros(61), Axes())
    found = fit(objective, begin, fitting=Fitting(epochs=0), failure=0.025, factor=1.0, rng=RNG)
    assert torch.equal(found.mean, begin.mean)
    assert len(found.objectives) == 0


@pytest.mark.parametrize(
    "wrong", [{"epochs": -1}, {"batch_size": 0}, {"learning_rate": 0.0}, {"decay_every": 0}, {"refresh_every": 0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Fitting(**wrong)  # type: ignore[arg-type]
