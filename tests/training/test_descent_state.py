from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.training.runs import begin, bits, follow, ground
from vallis.core import tree
from vallis.core.data import Arrays
from vallis.core.errors import DataError
from vallis.core.own import coordinates
from vallis.core.rng import Rng
from vallis.core.types import Net
from vallis.testing.toys.models import TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs
from vallis.training._descent_state import may_draw, must_be_learnable, private_copy
from vallis.training.gradient_descent import GradientDescent


def test_the_copy_takes_the_given_values_and_shares_nothing() -> None:
    net, _ = ground(Bars(), TinyConvnet())
    params, buffers = coordinates(net.module)
    params = {name: value + 1 for name, value in reversed(params.items())}
    module, trainable = private_copy(net, params, buffers)
    assert list(trainable) == [name for name, _ in net.module.named_parameters()], "the order of the module"
    assert all(torch.equal(trainable[name], value) for name, value in params.items())
    before = tree.fingerprint(params)
    with torch.no_grad():
        for value in module.state_dict().values():
            value.fill_(7)
    assert tree.fingerprint(params) == before
    assert all(part.training for part in module.modules())


def test_the_copy_takes_the_dtype_of_the_values() -> None:
    net, _ = ground()
    params, buffers = coordinates(net.module)
    module, _ = private_copy(net, {name: value.double() for name, value in params.items()}, buffers)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float64}
    assert {parameter.dtype for parameter in net.module.parameters()} == {torch.float32}


def test_the_order_of_an_epoch_is_a_function_of_its_number() -> None:
    """A state that begins in the middle of an epoch draws the batches that were left."""
    net, tasks = ground()
    training = GradientDescent(batch_size=10)
    orders = []
    for skipped in (0, 3):
        state = begin(training, net, tasks)
        state.step = skipped
        seen = []
        for _ in range(7 - skipped):
            seen.append(state.next_batch(10).index.tolist())
            state.step += 1
        orders.append(seen)
    assert orders[0][3:] == orders[1]


def test_tasks_are_shuffled_by_streams_of_their_own() -> None:
    net, tasks = ground(Blobs(angles=(0.0, 0.0)))
    training = GradientDescent(batch_size=10)
    state = begin(training, net, tasks)
    first = state.next_batch(10).index - 0
    state.next_task(state.optimizer)
    second = state.next_batch(10).index - 72  # the second task begins after 48 + 24 examples
    assert not torch.equal(first, second)


def test_a_batch_as_large_as_the_data_is_all_of_it_in_order() -> None:
    net, tasks = ground()
    state = begin(GradientDescent(), net, tasks)
    for size in (None, 48, 100):
        assert torch.equal(state.next_batch(size).index, torch.arange(48))
    assert not torch.equal(state.next_batch(47).index, torch.arange(47))


class Shaken(torch.nn.Linear):
    """A subclass of something certain that is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.rand(())


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.0), torch.nn.ReLU()), False),
        (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.1)), True),
        (torch.nn.Sequential(Shaken(2, 2)), True),
        (torch.nn.RReLU(), True),
        (torch.nn.LSTM(2, 2, dropout=0.0), True),
    ],
)
def test_only_what_is_certain_is_spared_the_noise(module: torch.nn.Module, expected: bool) -> None:
    assert may_draw(module) is expected


def test_a_hook_may_do_anything() -> None:
    module = torch.nn.Linear(2, 2)
    assert not may_draw(module)
    module.register_forward_hook(lambda *_: torch.rand(()))
    assert may_draw(module)


def test_whatever_draws_is_resumed_and_touches_no_global_generator() -> None:
    _, tasks = ground()
    net = Net(module=torch.nn.Sequential(Shaken(2, 2)).eval())
    training = GradientDescent(max_steps=6, batch_size=10)
    before = torch.get_rng_state()
    whole, half = begin(training, net, tasks), begin(training, net, tasks)
    follow(training, whole)
    follow(training, half, 3)
    again = training.unpack(training.pack(half), net, tasks, Rng(0).child("training"))
    follow(training, again)
    assert bits(training.solution(whole)) == bits(training.solution(again))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.bool])
def test_classes_of_a_type_that_torch_takes_for_none_are_refused(dtype: torch.dtype) -> None:
    """Torch's own error came, out of the first step."""
    net, tasks = ground(Blobs(), TinyMlp())
    train = tasks[0].splits["train"]
    whole = train.take(torch.arange(len(train)))
    narrow = Arrays(x=whole.x, y=whole.y.to(dtype), index=whole.index)
    with pytest.raises(DataError, match=r"classes as int64 were required by cross-entropy, .*: let the problem give"):
        must_be_learnable(net, (replace(tasks[0], splits={"train": narrow}),))
    must_be_learnable(net, (replace(tasks[0], splits={"train": replace(narrow, y=whole.y.byte())}),))
