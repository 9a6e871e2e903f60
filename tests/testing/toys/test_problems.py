from __future__ import annotations

import torch

from vallis.core.protocols import Problem
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.testing.oracles import dense_hessian
from vallis.testing.toys.models import LinearModel
from vallis.testing.toys.problems import (
    Bars,
    Blobs,
    LinearRegression,
    QuadraticBowl,
    regression_hessian,
    regression_minimum,
)
from vallis.testing.toys.solutions import start, trained


def whole(task: Task, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    batch = task.splits[split].take(torch.arange(len(task.splits[split])))
    return batch.x, batch.y


def test_the_hessian_of_a_regression_is_known() -> None:
    solution = start(LinearRegression(), LinearModel(), Rng(0))
    x, y = whole(solution.task)
    residual = (y - y.mean()).norm() / (y - x @ regression_minimum(solution.task)[:, None]).norm()
    assert residual > 5, "the inputs explain the targets"
    assert torch.allclose(dense_hessian(solution), regression_hessian(solution.task), atol=1e-12)


def test_the_minimum_of_a_regression_is_known() -> None:
    solution = trained(LinearRegression(), LinearModel(), Rng(0), steps=300, rate=0.1)
    assert torch.allclose(solution.params["weight"][0], regression_minimum(solution.task), atol=1e-8)


def test_the_bowl_has_the_eigenvalues_that_it_is_given() -> None:
    values = (7.0, 2.5, 0.01)
    solution = start(QuadraticBowl(eigenvalues=values), LinearModel(), Rng(1))
    found = torch.linalg.eigvalsh(dense_hessian(solution))
    assert torch.allclose(found, torch.tensor(sorted(values), dtype=torch.float64), atol=1e-12)
    x, y = whole(solution.task)
    assert torch.allclose(x @ regression_minimum(solution.task)[:, None], y, atol=1e-10), "its minimum is zero"


def test_no_classifier_of_two_blobs_beats_the_bayes_error() -> None:
    problem = Blobs(num_train=2, num_test=40000, distance=2.0)
    (task,) = problem.build(Rng(0))
    x, y = whole(task, "test")
    wrong = ((x[:, 0] < 0).long() != y).double().mean()  # the centres are at plus and minus one of the first axis
    std_error = (problem.bayes_error * (1 - problem.bayes_error) / 40000) ** 0.5
    assert abs(float(wrong) - problem.bayes_error) < 4 * std_error
    assert abs(problem.bayes_error - 0.15865525) < 1e-8


def test_angles_are_tasks_with_examples_of_their_own() -> None:
    tasks = Blobs(angles=(0.0, 1.0, 2.0), num_classes=3).build(Rng(0))
    assert [task.name for task in tasks] == ["blobs_0", "blobs_1", "blobs_2"]
    index = torch.cat([batch.index for task in tasks for split in task.splits.values() for batch in split])
    assert torch.equal(index.sort().values, torch.arange(3 * 72))
    assert not torch.equal(whole(tasks[0])[0], whole(tasks[1])[0])


def test_bars_lie_or_stand() -> None:
    (task,) = Bars(channels=3, size=6).build(Rng(0))
    x, y = whole(task)
    assert x.shape == (24, 3, 6, 6)
    standing = x.mean(2).amax((1, 2)) > x.mean(3).amax((1, 2))  # the fullest column against the fullest row
    assert torch.equal(standing.long(), y)


def test_same_stream_same_data() -> None:
    problems: tuple[Problem, ...] = (LinearRegression(), QuadraticBowl(), Blobs(), Bars(double=True))
    for problem in problems:
        assert isinstance(problem, Problem)
        prints = [problem.build(Rng(seed))[0].splits["train"].fingerprint() for seed in (0, 0, 1)]
        assert prints[0] == prints[1] != prints[2]
