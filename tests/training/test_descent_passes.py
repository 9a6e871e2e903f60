from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.training.runs import begin, bits, follow, ground
from vallis.core.data import Arrays
from vallis.core.rng import Rng
from vallis.core.types import Batch
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.training._descent_passes import all_right, evaluate, gradients, noise
from vallis.training.gradient_descent import GradientDescent


def test_gradients_made_again_draw_the_same_noise() -> None:
    net, tasks = ground(model=TinyMlp(dropout=0.5))
    state = begin(GradientDescent(), net, tasks)
    (batch,) = state.data
    first, outputs = gradients(state, batch)
    slope = [parameter.grad.clone() for parameter in state.params.values() if parameter.grad is not None]
    again, others = gradients(state, batch)
    assert torch.equal(first, again)
    assert torch.equal(outputs, others)
    found = [parameter.grad for parameter in state.params.values() if parameter.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(slope, found, strict=True))
    state.step += 1
    assert not torch.equal(gradients(state, batch)[0], first)


def test_what_a_forward_function_draws_in_python_hangs_on_the_seed_alone() -> None:
    class Drawing(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            factor = random.random() + np.random.rand() + float(torch.rand(1))  # noqa: NPY002
            return super().forward(x) * factor

    net, tasks = ground()
    net = replace(net, module=torch.nn.Sequential(torch.nn.Flatten(), Drawing(2, 3)))
    ends = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
        training = GradientDescent(max_steps=3, batch_size=8)
        state = begin(training, net, tasks)
        assert state.line is None
        follow(training, state)
        ends.append(bits(training.solution(state)))
        assert before == (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
    assert ends[0] == ends[1]


def test_evaluate_is_exact_for_ragged_batches() -> None:
    net, (task,) = ground(Blobs(), TinyMlp(dropout=0.5))
    (whole,) = task.splits["train"]
    data = Arrays(x=whole.x, y=whole.y, index=whole.index, batch_size=7)
    state = begin(GradientDescent(), net, (replace(task, splits={"train": data}),))
    loss, accuracy = evaluate(state)
    outputs = net.module(whole.x).detach()
    assert loss == pytest.approx(float(F.cross_entropy(outputs, whole.y)), rel=1e-6)
    assert accuracy == float((outputs.argmax(1) == whole.y).double().mean())
    assert state.module.training


@pytest.mark.parametrize("wrong", [None, 0, 150, 299])
def test_the_first_wrong_answer_ends_the_look(wrong: int | None) -> None:
    """A network that repeats its input; 300 examples are looked at in three pieces."""
    scores = F.one_hot(torch.arange(300) % 2, 2).float()
    y = torch.arange(300) % 2
    if wrong is not None:
        y[wrong] = 1 - y[wrong]
    seen: list[int] = []

    class Echo(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            seen.append(len(x))
            return x * self.scale

    net, (task,) = ground()
    split = Arrays(x=scores, y=y, index=torch.arange(300))
    state = begin(GradientDescent(), replace(net, module=Echo()), (replace(task, splits={"train": split}),))
    assert all_right(state) is (wrong is None)
    assert sum(seen) == {None: 300, 0: 128, 150: 256, 299: 300}[wrong]
    assert evaluate(state)[1] == (1.0 if wrong is None else 299 / 300)
    assert state.module.training


def test_what_is_no_class_is_not_right() -> None:
    net, tasks = ground(LinearRegression(), LinearModel())
    state = begin(GradientDescent(), net, tasks)
    assert all_right(state) is None
    assert evaluate(state)[1] is None


def test_noise_is_a_function_of_the_stream_alone() -> None:
    before = torch.get_rng_state()
    drawn = []
    for name in ("a", "a", "b"):
        with noise(Rng(0).child(name), torch.device("cpu")):
            drawn.append(torch.rand(3))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_noise_is_taken_back_after_an_exception() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), noise(Rng(0), torch.device("cpu")):
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_dict_of_inputs_is_handed_over_by_name() -> None:
    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, points: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.linear(points)
            return out

    net, (task,) = ground()
    (whole,) = task.splits["train"]
    data = Arrays(x={"points": whole.x}, y=whole.y, index=whole.index)
    state = begin(GradientDescent(), replace(net, module=Named()), (replace(task, splits={"train": data}),))
    batch = Batch(x={"points": whole.x}, y=whole.y, index=whole.index)
    assert torch.isfinite(gradients(state, batch)[0])
    assert evaluate(state)[0] > 0
