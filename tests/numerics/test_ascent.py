"""The worst and the mean rise against the exact maximum and mean of a quadratic loss, and under rescaling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from tests.measurements.curvature.test_hessian_spectrum import large
from tests.numerics.solutions import AWKWARD, built, classes, held, mlp, random
from vallis.core.errors import SettingsError
from vallis.core.losses import SquaredError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.ascent import mean_rise, worst_rise
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_gradient, dense_hessian, dense_loss, dense_vector

RNG = Rng(0)


def linear(scale: float = 1.0, seed: int = 0, batch_size: int = 5) -> Solution:
    """A linear regression: its loss is quadratic, and not at its minimum."""
    x = random(31, 6, seed=seed).double() * torch.tensor([3.0, 2.0, 1.5, 1.0, 0.5, 0.1]).double()
    module = built(lambda: nn.Linear(6, 1), seed=seed).double()
    with torch.no_grad():
        module.weight.mul_(scale)
    return held(module, x, random(31, 1, seed=seed + 9).double(), SquaredError(), batch_size)


def exact_maximum(hessian: torch.Tensor, slope: torch.Tensor, radius: float) -> float:
    """``max g'e + e'He/2`` over a ball, for H positive semidefinite: by the secular equation of its multiplier."""
    values, vectors = (part.numpy() for part in torch.linalg.eigh(hessian))
    g = vectors.T @ slope.numpy()

    def length(multiplier: float) -> float:
        return float(np.linalg.norm(g / (multiplier - values)))

    top = float(values[-1])
    low, high = top + 1e-12, top + float(np.linalg.norm(g)) / radius + 1.0
    multiplier = brentq(lambda m: length(m) - radius, low, high, xtol=1e-15)
    e = g / (multiplier - values)
    return float(g @ e + e @ (values * e) / 2)


@pytest.mark.parametrize("radius", [0.01, 0.3, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_quadratic_loss_is_climbed_to_its_exact_maximum(radius: float, seed: int) -> None:
    solution = linear(seed=seed)
    found = worst_rise(Objective(solution), radius, rng=RNG, tolerance=1e-7, max_steps=300)
    print(found)
    true = exact_maximum(dense_hessian(solution), dense_gradient(solution), radius)
    assert found.converged
    assert found.rise == pytest.approx(true, rel=1e-6)
    assert float(found.direction.norm()) == pytest.approx(radius, rel=1e-9)


@pytest.mark.parametrize("radius", [0.02, 0.5])
def test_so_it_is_relative_to_the_weights(radius: float) -> None:
    solution = linear()
    sizes = dense_vector(solution).abs()
    found = worst_rise(Objective(solution), radius, rng=RNG, relative=True, tolerance=1e-7, max_steps=300)
    hessian = sizes[:, None] * dense_hessian(solution) * sizes
    assert found.rise == pytest.approx(exact_maximum(hessian, sizes * dense_gradient(solution), radius), rel=1e-6)
    assert float((found.direction / sizes).norm()) == pytest.approx(radius, rel=1e-9)


def test_a_maximum_inside_of_the_ball_is_found() -> None:
    """The loss falls off on all sides: nothing rises, and the centre itself is no answer of a wrong sign."""
    x = torch.ones(4, 1, dtype=torch.float64)
    module = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(0.3)
    solution = held(module, x, torch.zeros(4, 1, dtype=torch.float64))
    solution = replace(solution, tasks=(replace(solution.task, loss=Hill()),))
    found = worst_rise(Objective(solution), 2.0, rng=RNG, tolerance=1e-9, max_steps=200)
    assert found.rise == pytest.approx(1 - math.exp(-(0.3**2)), rel=1e-6)
    assert found.direction.item() == pytest.approx(-0.3, abs=1e-4)


def test_nowhere_in_the_ball_is_higher_than_a_peak_in_the_middle() -> None:
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(module.weight)
    ones = torch.ones(4, 1, dtype=torch.float64)
    solution = held(module, ones, ones)
    solution = replace(solution, tasks=(replace(solution.task, loss=Hill()),))
    found = worst_rise(Objective(solution), 2.0, rng=RNG, max_steps=3)
    assert found.rise == 0.0
    assert found.converged
    assert not bool(found.direction.any())


class Hill(SquaredError):
    """``exp(-f^2)``: a maximum at zero."""

    def mean(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.exp(-(outputs**2)).mean()


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("relative", [False, True])
def test_the_place_it_reports_is_in_the_ball_and_as_high_as_it_says(name: str, relative: bool) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    objective = Objective(solution, dtype=torch.float64)
    radius = 0.3
    found = worst_rise(objective, radius, rng=RNG, relative=relative)
    at = dense_vector(solution)
    reached = dense_loss(solution, at + found.direction) - dense_loss(solution, at)
    assert found.rise == pytest.approx(float(reached), rel=1e-8, abs=1e-12)
    units = at.abs() if relative else torch.ones_like(at)
    moved = found.direction[units > 0] / units[units > 0]
    assert float(moved.norm()) <= radius * (1 + 1e-9)
    assert torch.equal(found.direction[units == 0], torch.zeros_like(found.direction[units == 0]))
    assert found.rise > 0


def test_it_is_no_lower_than_any_of_many_random_places() -> None:
    solution = mlp(double=True)
    found = worst_rise(Objective(solution), 0.5, rng=RNG)
    at, base = dense_vector(solution), float(dense_loss(solution, dense_vector(solution)))
    generator = RNG.child("places").torch()
    for _ in range(500):
        e = torch.randn(len(at), generator=generator, dtype=torch.float64)
        assert float(dense_loss(solution, at + 0.5 * e / e.norm())) - base < found.rise


def test_what_has_not_converged_says_so() -> None:
    objective = Objective(mlp(double=True))
    short = worst_rise(objective, 0.5, rng=RNG, max_steps=1, num_starts=1)
    long = worst_rise(objective, 0.5, rng=RNG, max_steps=500, num_starts=1, tolerance=1e-8)
    assert not short.converged
    assert short.gap > 1e-3
    assert long.converged
    assert long.rise > short.rise
    assert short.num_gradients == 3  # the slope at the centre, and one look at each of two starts
    assert len(long.rises) == 2


def test_starts_that_are_given_are_used_both_ways() -> None:
    solution = linear()
    top = torch.linalg.eigh(dense_hessian(solution)).eigenvectors[:, -1]
    found = worst_rise(Objective(solution), 0.3, rng=RNG, starts=[top], num_starts=0)
    assert len(found.rises) == 3
    assert found.rise == pytest.approx(found.rises.max())


def scaled(solution: Solution, factors: torch.Tensor) -> Solution:
    """The same function, with every hidden unit's inputs and outputs scaled against each other."""
    params = dict(solution.params)
    params["0.weight"] = params["0.weight"] * factors[:, None]
    params["0.bias"] = params["0.bias"] * factors
    params["2.weight"] = params["2.weight"] / factors
    return replace(solution, params=params)


def test_relative_rises_do_not_see_layers_or_units_rescaled() -> None:
    module = built(lambda: nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3)))
    solution = held(module.double(), random(17, 2).double(), classes(17))
    other = scaled(solution, torch.tensor([5.0, 0.2, 1.0, 3.0, 0.7], dtype=torch.float64))
    one, two = (worst_rise(Objective(s), 0.5, rng=RNG, relative=True) for s in (solution, other))
    assert two.rise == pytest.approx(one.rise, rel=1e-8)
    mean, same = (mean_rise(Objective(s), 0.5, rng=RNG, relative=True, num_directions=9) for s in (solution, other))
    assert same.value == pytest.approx(mean.value, rel=1e-8)
    plain, changed = (worst_rise(Objective(s), 0.5, rng=RNG) for s in (solution, other))
    assert changed.rise != pytest.approx(plain.rise, rel=1e-2)


@pytest.mark.parametrize("relative", [False, True])
def test_the_mean_of_a_quadratic_loss_is_a_trace(relative: bool) -> None:
    """``E (e'He / 2) = radius^2 Tr(H) / 2P``, slope or no slope; 200 streams say whether the error bar is honest."""
    solution, radius = linear(batch_size=16), 0.7
    sizes = dense_vector(solution).abs() if relative else torch.ones(7, dtype=torch.float64)
    trace = float((sizes[:, None] * dense_hessian(solution) * sizes).trace())
    true = radius**2 * trace / (2 * len(sizes))
    objective = Objective(solution)
    drawn = [mean_rise(objective, radius, rng=Rng(seed), relative=relative, num_directions=12) for seed in range(200)]
    z = np.array([(one.value - true) / (one.stderr or np.nan) for one in drawn])
    # Skewed terms and 11 degrees of freedom leave about 7 % beyond two; 30 of 200 is beyond chance.
    assert int((np.abs(z) > 2).sum()) <= 30
    assert abs(float(np.mean([one.value for one in drawn])) - true) < 4 * true / 200**0.5
    assert len({one.value for one in drawn}) == 200


def test_the_slope_is_not_in_the_error_bar() -> None:
    solution = linear(scale=20.0)  # far from the minimum: the slope is most of every single rise
    found = mean_rise(Objective(solution), 0.1, rng=RNG, num_directions=20)
    assert found.stderr is not None
    assert found.stderr < found.value
    slope = float(dense_gradient(solution).norm())
    assert slope * 0.1 > 10 * found.value


def test_infinite_losses_are_walked_around() -> None:
    module = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(1.0)
    ones = torch.ones(3, 1, dtype=torch.float64)
    solution = held(module, ones, ones)
    solution = replace(solution, tasks=(replace(solution.task, loss=Wall()),))
    found = worst_rise(Objective(solution), 2.0, rng=RNG)
    assert found.met_infinity
    assert math.isfinite(found.rise) or math.isnan(found.rise)


class Wall(SquaredError):
    """``-log f``: infinite at zero, and no number beyond."""

    def mean(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -torch.log(outputs).mean()


def test_the_solution_is_left_alone_and_the_modes_do_not_matter() -> None:
    solution = mlp()
    before = {name: value.clone() for name, value in solution.params.items()}
    plain = worst_rise(Objective(solution), 0.1, rng=RNG)
    with torch.no_grad():
        again = worst_rise(Objective(solution), 0.1, rng=RNG)
    assert again.rise == plain.rise
    with torch.inference_mode():
        assert worst_rise(Objective(solution), 0.1, rng=RNG).rise == plain.rise
    assert all(torch.equal(solution.params[name], value) for name, value in before.items())
    assert all(value.grad is None and not value.requires_grad for value in solution.params.values())


def test_rounding_is_in_the_error_bar() -> None:
    """All samples share the rounding of the centre, so at a tiny radius their scatter is no error bar."""
    solution, radius = large(), 1e-4
    true = mean_rise(Objective(solution, dtype=torch.float64), radius, rng=RNG, num_directions=40)
    rough = mean_rise(Objective(solution), radius, rng=RNG, num_directions=40)
    assert rough.stderr is not None
    assert abs(rough.value - true.value) < 3 * rough.stderr
    assert true.rounding < 1e-14
    assert rough.value < 4 * rough.rounding


def test_one_direction_has_no_error_bar() -> None:
    assert mean_rise(Objective(mlp()), 0.1, rng=RNG, num_directions=1).stderr is None


def test_weights_of_zero_have_nowhere_to_go_relative_to_themselves() -> None:
    module = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(module.weight)
    solution = held(module, random(5, 2).double(), random(5, 1).double(), SquaredError())
    found = worst_rise(Objective(solution), 0.5, rng=RNG, relative=True)
    assert found.rise == 0.0
    assert found.converged


def test_impossible_settings_are_refused() -> None:
    objective = Objective(mlp())
    with pytest.raises(SettingsError, match="radius=0"):
        worst_rise(objective, 0.0, rng=RNG)
    with pytest.raises(SettingsError, match="num_directions=0"):
        mean_rise(objective, 1.0, rng=RNG, num_directions=0)
