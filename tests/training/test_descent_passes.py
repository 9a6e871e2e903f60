from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.training.runs import begin, ground
from vallis.core.data import Arrays
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from vallis.core.rng import Rng
from vallis.core.types import Batch
from vallis.numerics.scores import judge
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs
from vallis.training._descent_passes import correct, evaluate, gradients, noise
from vallis.training.gradient_descent import GradientDescent


def test_correct_by_kind_of_loss() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    y = torch.tensor([0, 0, 0])
    assert correct(CrossEntropy(), logits, y).tolist() == [True, False, True]  # type: ignore[union-attr]
    binary = correct(BinaryCrossEntropy(), torch.tensor([[0.1], [-0.1]]), torch.tensor([1.0, 1.0]))
    assert binary is not None
    assert binary.tolist() == [True, False]
    assert correct(SquaredError(), logits, logits) is None
    assert correct(CrossEntropy(), logits, torch.full((3, 4), 0.5)) is None
    assert correct(CrossEntropy(), logits, [0, 0, 0]) is None


def test_an_example_of_tokens_is_right_when_all_that_count_are() -> None:
    logits = torch.zeros(3, 2, 4)
    logits[:, 1] = torch.tensor([1.0, 1.0, -1.0, -1.0])  # says 1 1 0 0
    y = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, -100, -100]])
    assert correct(CrossEntropy(), logits, y).tolist() == [True, False, True]  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(), (3,)]), ignored=st.sampled_from([-100, 0, 2]))
def test_it_is_what_the_measurements_call_right(seed: int, shape: tuple[int, ...], ignored: int) -> None:
    """Scores of few values, so that ties are common, and NaN among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-1, 2, (8, 3, *shape), generator=generator).float()
    logits[torch.rand(logits.shape, generator=generator) < 0.05] = torch.nan
    y = torch.randint(0, 3, (8, *shape), generator=generator)
    y[torch.rand(y.shape, generator=generator) < 0.2] = ignored
    loss = CrossEntropy(ignore_index=ignored)
    judged = judge(loss, logits, y)
    assert judged is not None
    expected = torch.ones(8, dtype=torch.bool)
    expected[judged.rows[~(judged.margins > 0)]] = False
    found = correct(loss, logits, y)
    assert found is not None
    assert torch.equal(found, expected)


def test_shares_of_classes_are_judged_by_the_largest() -> None:
    shares = torch.tensor([[0.2, 0.8], [0.7, 0.3]])
    found = correct(CrossEntropy(), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), shares)
    assert found is not None
    assert found.tolist() == [True, False]


def test_a_net_that_says_nothing_is_never_right() -> None:
    y = torch.tensor([0, 1])
    assert not correct(CrossEntropy(), torch.zeros(2, 2), y).any()  # type: ignore[union-attr]
    assert not correct(BinaryCrossEntropy(), torch.zeros(2), y).any()  # type: ignore[union-attr]


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
