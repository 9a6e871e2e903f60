"""Where training a linear model ends, against pinv and closed forms, on real digits and Gaussian inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge

from vallis.core.errors import DataError
from vallis.core.rng import Rng
from vallis.numerics.minimum_norm import LinearSystem, compare, descend, linear_system


def gaussian(n: int = 40, d: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator).double(), torch.randn(n, 3, generator=generator).double()


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    held = load_digits()
    return torch.tensor(held.data[:12] / 16), torch.eye(10, dtype=torch.float64)[held.target[:12]]


@pytest.fixture(params=[gaussian, digits])
def system(request: pytest.FixtureRequest) -> LinearSystem:
    return linear_system(*request.param())


def test_the_solution_is_that_of_pinv(system: LinearSystem) -> None:
    pinv = np.linalg.pinv(system.x.numpy()) @ system.y.numpy()
    np.testing.assert_allclose(system.solution.numpy(), pinv, atol=1e-10)
    lstsq = np.linalg.lstsq(system.x.numpy(), system.y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(system.solution.numpy(), lstsq, atol=1e-10)
    assert system.condition == pytest.approx(np.linalg.cond(system.x.numpy()) ** 2)
    ridge = Ridge(alpha=0.3 * len(system.x), fit_intercept=False).fit(system.x.numpy(), system.y.numpy())
    np.testing.assert_allclose(system.ridge(0.3).numpy(), ridge.coef_.T, atol=1e-10)


def test_what_each_training_finds(system: LinearSystem) -> None:
    """B7: from 0 within 1e-6 of pinv, also with single batches and momentum; elsewhere, the norm is larger."""
    pinv = torch.linalg.pinv(system.x) @ system.y
    ends = compare(system, decay=0.01, std_start=1.0, max_steps=30_000, tolerance=1e-8, rng=Rng(0))
    for name in ("gradient_descent", "stochastic", "momentum"):
        assert ends[name].converged
        assert ends[name].relative_difference(pinv) <= 1e-6
        assert ends[name].outside(system) < 1e-12
    least = float(pinv.norm())
    random, decayed, adam = (ends[name] for name in ("random_start", "weight_decay", "adam"))
    assert random.converged and decayed.converged
    assert random.residual < 1e-6 and float(random.weights.norm()) > 1.5 * least
    assert random.relative_difference(system.limit_from(random.start)) <= 1e-6
    assert decayed.relative_difference(system.ridge(0.01)) <= 1e-6
    assert float(decayed.weights.norm()) < float(system.ridge(0.001).norm()) < least  # shrinks, the more the stronger
    assert decayed.outside(system) < 1e-12
    assert adam.residual < 1e-4 and adam.outside(system) > 0.05
    assert float(adam.weights.norm()) > 1.01 * least


def test_the_part_outside_of_the_span_stays() -> None:
    """|W|^2 = |W*|^2 + |the part of the start outside|^2, from the null space that scipy finds."""
    from scipy.linalg import null_space

    system = linear_system(*gaussian())
    start = torch.randn(200, 3, generator=torch.Generator().manual_seed(1)).double()
    end = descend(system, lambda w: torch.optim.SGD([w], lr=float(1 / system.curvatures[0])), start=start)
    outside = torch.tensor(null_space(system.x.numpy()))
    expected = float(system.solution.norm() ** 2 + (outside.T @ start).norm() ** 2)
    assert float(end.weights.norm() ** 2) == pytest.approx(expected, rel=1e-6)


def test_what_ran_out_of_steps_says_so() -> None:
    system = linear_system(*digits())
    end = descend(system, lambda w: torch.optim.SGD([w], lr=1e-6), max_steps=100)
    assert (end.converged, end.steps) == (False, 100)
    assert end.residual > 0.5


class Spy(torch.optim.SGD):
    """Moves nothing, and keeps the gradients that it is given."""

    def __init__(self, weights: torch.Tensor, seen: list[torch.Tensor]) -> None:
        super().__init__([weights], lr=0.0)
        self.seen = seen

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.seen += [group["params"][0].grad.clone() for group in self.param_groups]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_epoch_sees_each_example_once_in_a_new_order(batch_size: int) -> None:
    """At W = 0 the gradient of a batch is the mean of ``-x_i y_i``, which tells what was in it; 7 are ragged."""
    x, y = gaussian(n=7, d=20)
    epoch = -(-7 // batch_size)
    runs: list[list[torch.Tensor]] = [[], []]
    for seen in runs:
        descend(
            linear_system(x, y),
            lambda weights, seen=seen: Spy(weights, seen),  # type: ignore[misc]
            batch_size=batch_size,
            max_steps=2 * epoch,
            rng=Rng(3),
        )
    sizes = [min(batch_size, 7 - place) for place in range(0, 7, batch_size)]
    epochs = [runs[0][:epoch], runs[0][epoch:]]
    for seen in epochs:
        torch.testing.assert_close(sum(n * g for n, g in zip(sizes, seen, strict=True)), -x.T @ y)
    assert not torch.stack(epochs[0]).equal(torch.stack(epochs[1]))
    assert torch.stack(runs[0]).equal(torch.stack(runs[1]))


def test_what_has_one_solution_or_none_is_refused() -> None:
    x, y = gaussian(n=5, d=5)
    with pytest.raises(DataError, match="fewer examples than inputs"):
        linear_system(x, y)
    with pytest.raises(DataError, match="not all 0"):
        linear_system(x[:2], torch.zeros(2, 1))
    with pytest.raises(DataError, match="of rank 2"):
        linear_system(torch.cat([x[:2], x[:1]]), y[:3])
