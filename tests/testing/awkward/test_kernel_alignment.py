"""A measurement of a whole path."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vallis.core.protocols import Measurement
from vallis.core.rng import Rng
from vallis.core.types import Job, Result
from vallis.run.measure import measure
from vallis.run.train import train
from vallis.testing.awkward.kernel_alignment import KernelAlignment
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.testing.toys.solutions import path, start
from vallis.training.gradient_descent import GradientDescent

QUESTION = KernelAlignment(num_examples=12)


def test_it_is_the_cosine_of_two_kernels() -> None:
    """Against gradients of single outputs, one by one."""
    solution = start(Blobs(double=True), TinyMlp(double=True), Rng(0))
    batch = solution.task.splits["train"].take(torch.arange(12))
    rows = []
    for i in range(12):
        for c in range(2):
            params = {k: v.clone().requires_grad_() for k, v in solution.params.items()}
            output = torch.func.functional_call(solution.net.module, params, (batch.x[i : i + 1],))[0, c]
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(output, list(params.values()))]))
    jacobian = torch.stack(rows).view(12, 2, -1)
    kernel = sum(jacobian[:, c] @ jacobian[:, c].T for c in range(2)).numpy()  # type: ignore[union-attr]
    centring = np.eye(12) - 1 / 12
    labels = np.equal.outer(batch.y.numpy(), batch.y.numpy()).astype(float)
    a, b = centring @ kernel @ centring, centring @ labels @ centring
    expected = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    outcome = QUESTION.measure([solution], Rng(0))
    assert isinstance(outcome, Result)
    assert outcome.estimate("last").value == pytest.approx(expected, rel=1e-10)


def test_it_is_asked_of_a_trajectory() -> None:
    assert isinstance(QUESTION, Measurement)
    job = Job(
        problem=Blobs(distance=4.0, num_classes=4),
        model=TinyMlp(widths=(32,), activation="relu"),
        training=GradientDescent(learning_rate=0.3, batch_size=None, max_steps=200),
        snapshots=(0, 20),
    )
    outcome = measure(train(job), QUESTION)
    assert isinstance(outcome, Result)
    found = outcome.array("alignment")
    assert found.coords["snapshot"].tolist() == [0, 20, 200]
    assert found.data[-1] > found.data[0] + 0.02, "the kernel turns towards the labels"
    assert found.data[-1] == outcome.estimate("last").value
    assert "went from" in QUESTION.reading(outcome)
    assert QUESTION.figures(outcome)[0].marks[0].y is found.data


def test_a_path_of_one_is_a_path() -> None:
    outcome = QUESTION.measure(path(Blobs(), TinyMlp(), Rng(0), at=(5,)), Rng(0))
    assert isinstance(outcome, Result)
    assert outcome.array("alignment").data.shape == (1,)
