from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.training.runs import begin, ground
from vallis.core.data import Arrays
from vallis.core.rng import Rng
from vallis.core.types import Batch
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training._descent_passes import evaluate, gradients, noise
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
