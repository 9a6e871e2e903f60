"""Relative flatness against the sum over blocks of the dense Hessian, and under what it must not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.numerics.solutions import AWKWARD, batch_norm, built, classes, held, random
from vallis.core.errors import UnknownPart, UsageError
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.core.types import Solution
from vallis.numerics.curvature import positions
from vallis.numerics.relative_flatness import RelativeCurvature, relative_flatness
from vallis.numerics.surface import in_eval_mode
from vallis.testing.oracles import dense_hessian

CASES = [
    ("mlp", "0.weight"),
    ("mlp", "2.weight"),
    ("mlp", "4.weight"),
    ("dead_relu", "0.weight"),
    ("tied", "there.weight"),
    ("batch_norm", "0.weight"),
    ("batch_norm", "4.weight"),
    ("frozen", "2.weight"),
    ("tokens", "head.weight"),
    ("regression", "2.weight"),
    ("one_parameter", "weight"),
]


def by_blocks(solution: Solution, weight: str) -> float:
    """``sum_{s,t} <w_s, w_t> Tr(H_st)``, as it is written in the paper."""
    solution = in_eval_mode(solution)
    where = positions(Objective(solution), [weight])
    w = solution.params[weight].double().flatten(1)
    m, n = w.shape
    blocks = dense_hessian(solution)[where][:, where].view(m, n, m, n)
    return sum(float(w[s] @ w[t]) * float(torch.trace(blocks[s, :, t, :])) for s in range(m) for t in range(m))


@pytest.mark.parametrize(("name", "weight"), CASES)
def test_it_is_the_weighted_sum_of_the_blocks_traces(name: str, weight: str) -> None:
    solution = in_eval_mode(AWKWARD[name]())
    found = relative_flatness(Objective(solution, dtype=torch.float64), weight, num_probes=1, rng=Rng(0))
    assert found.value == pytest.approx(by_blocks(solution, weight), rel=1e-8, abs=1e-12)
    assert found.stderr == 0.0


def test_a_large_layer_within_its_error_bar() -> None:
    """200 streams: what lies outside of two standard errors is as rare as it should be."""
    solution = batch_norm()
    objective = Objective(solution, dtype=torch.float64)
    true = by_blocks(solution, "4.weight")
    drawn = [
        relative_flatness(objective, "4.weight", num_probes=25, rng=Rng(seed), exact_size=1) for seed in range(200)
    ]
    z = np.array([(one.value - true) / (one.stderr or np.nan) for one in drawn])
    # Student's t with 24 degrees leaves 5.7 % beyond two; of 200, a binomial keeps to 2..22 but once in 1000.
    assert 2 <= int((np.abs(z) > 2).sum()) <= 22
    assert abs(np.mean([one.value for one in drawn]) - true) < 4 * np.std([one.value for one in drawn]) / 200**0.5


def relu() -> Solution:
    module = built(lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    return held(module.double(), random(19, 3).double(), classes(19))


def test_scaling_a_layer_that_another_divides_out_changes_nothing() -> None:
    solution, factor = relu(), 3.7
    params = dict(solution.params)
    for name, by in (("0.weight", factor), ("0.bias", factor), ("2.weight", 1 / factor)):
        params[name] = params[name] * by
    scaled = replace(solution, params=params)
    for weight in ("0.weight", "2.weight", "4.weight"):
        one, other = (
            relative_flatness(Objective(each), weight, num_probes=1, rng=Rng(0)).value for each in (solution, scaled)
        )
        assert other == pytest.approx(one, rel=1e-10)
        assert one != pytest.approx(0, abs=1e-3)


def test_unequal_scaling_of_single_units_is_seen() -> None:
    """What the paper leaves open: only layers as a whole may be scaled."""
    solution = relu()
    factors = torch.tensor([4.0, 0.3, 1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    params = dict(solution.params)
    params["0.weight"] = params["0.weight"] * factors[:, None]
    params["0.bias"] = params["0.bias"] * factors
    params["2.weight"] = params["2.weight"] / factors
    scaled = replace(solution, params=params)
    one, other = (
        relative_flatness(Objective(each), "2.weight", num_probes=1, rng=Rng(0)).value for each in (solution, scaled)
    )
    assert other != pytest.approx(one, rel=1e-2)


def test_the_operator_is_symmetric_and_no_larger_than_needed() -> None:
    objective = Objective(relu())
    for weight, size in (("0.weight", 9), ("2.weight", 30), ("4.weight", 15)):
        operator = RelativeCurvature(objective, weight)
        assert operator.size == size
        matrix = operator.dense()
        torch.testing.assert_close(matrix, matrix.T, rtol=1e-9, atol=1e-10)


def test_what_is_no_weight_is_refused() -> None:
    objective = Objective(relu())
    with pytest.raises(UsageError, match=r"2\.bias has 1 axes"):
        relative_flatness(objective, "2.bias", num_probes=1, rng=Rng(0))
    with pytest.raises(UnknownPart):
        relative_flatness(objective, "7.weight", num_probes=1, rng=Rng(0))
