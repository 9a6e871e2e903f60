from __future__ import annotations

import torch

from vallis.core.objective import Objective
from vallis.core.protocols import Model, Problem
from vallis.core.rng import Rng
from vallis.testing.awkward.binary_perceptron import BinaryPerceptron, SignPatterns
from vallis.testing.toys.solutions import start


def test_patterns_and_weights_are_signs() -> None:
    problem, model = SignPatterns(load=0.4), BinaryPerceptron()
    assert isinstance(problem, Problem)
    assert isinstance(model, Model)
    solution = start(problem, model, Rng(0))
    (batch,) = solution.task.splits["train"]
    assert batch.x.shape == (40, 101)
    for values in (batch.x, solution.params["weight"]):
        assert set(values.unique().tolist()) == {-1.0, 1.0}
    assert set(batch.y.unique().tolist()) == {0.0, 1.0}
    assert "binary" in solution.net.traits
    assert solution.net.layers[0].parameters == ("weight",)


def test_random_weights_are_right_half_of_the_time() -> None:
    solution = start(SignPatterns(load=40.0), BinaryPerceptron(), Rng(0))
    (batch,) = solution.task.splits["train"].in_batches_of(10000)  # type: ignore[attr-defined]
    right = ((solution.net.module(batch.x) > 0) == (batch.y > 0.5)).double().mean()
    assert abs(float(right) - 0.5) < 4 * 0.5 / len(batch) ** 0.5
    assert torch.isfinite(torch.tensor(Objective(solution).value()))
