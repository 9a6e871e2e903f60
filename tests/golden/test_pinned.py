"""Numbers of our own, held where they are: a change of one of them is regenerated with a line in the changelog.

Twenty steps on digits are few enough that the rounding of another machine has no time to grow.
"""

from __future__ import annotations

import pytest

import vallis
from vallis.core.types import Job, Result, Solution
from vallis.models.mlp import Mlp
from vallis.problems.digits import Digits
from vallis.training.gradient_descent import GradientDescent

PINNED = {
    ("generalization_gap", "train_loss"): 1.686536,
    ("generalization_gap", "test_loss"): 1.711143,
    ("hessian_spectrum", "top_eigenvalue"): 2.390648,
    ("hessian_trace", "trace"): 14.319195,
    ("loss_slice", "rise_radius_first"): 0.6165275,
    ("margins", "test_median_margin"): 0.0913022,
}


@pytest.fixture(scope="module")
def solution() -> Solution:
    training = GradientDescent(max_steps=20, momentum=0.9)
    return vallis.train(Job(problem=Digits(), model=Mlp(widths=(16,)), training=training))[-1]


@pytest.mark.parametrize(("measurement", "key"), PINNED)
def test_it_is_where_it_was(solution: Solution, measurement: str, key: str) -> None:
    found = vallis.measure(solution, measurement)
    assert isinstance(found, Result)
    assert found.estimate(key).value == pytest.approx(PINNED[measurement, key], rel=1e-4)
