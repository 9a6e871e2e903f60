from __future__ import annotations

import torch

from vallis.core import tree
from vallis.core.objective import Objective
from vallis.core.rng import Rng
from vallis.testing.oracles import dense_vector
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, QuadraticBowl, regression_minimum
from vallis.testing.toys.solutions import path, start, trained


def test_the_path_on_a_bowl_is_the_closed_form() -> None:
    """``w_t - w* = (1 - rate H)^t (w_0 - w*)``."""
    solutions = path(QuadraticBowl(), LinearModel(), Rng(0), at=(0, 1, 5), rate=0.1)
    (batch,) = solutions[0].task.splits["train"]
    hessian, minimum = 2 / len(batch) * batch.x.T @ batch.x, regression_minimum(solutions[0].task)
    shrink = torch.eye(4, dtype=torch.float64) - 0.1 * hessian
    for solution in solutions:
        left = torch.linalg.matrix_power(shrink, solution.step) @ minimum
        assert torch.allclose(dense_vector(solution), minimum - left, atol=1e-10)


def test_a_path_goes_down_and_its_solutions_are_apart() -> None:
    solutions = path(Blobs(), TinyMlp(), Rng(0), at=(0, 10, 40))
    assert [solution.step for solution in solutions] == [0, 10, 40]
    losses = [Objective(solution).value() for solution in solutions]
    assert losses[0] > losses[1] > losses[2]
    assert len({tree.fingerprint(dict(solution.params)) for solution in solutions}) == 3


def test_start_is_the_model_as_it_is_built() -> None:
    solution = start(Blobs(), TinyMlp(), Rng(0))
    assert all(torch.equal(solution.net.module.get_parameter(k), v) for k, v in solution.params.items())
    assert torch.equal(dense_vector(trained(Blobs(), TinyMlp(), Rng(0), steps=0)), dense_vector(solution))
