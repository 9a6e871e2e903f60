from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.training.runs import begin, bits, follow, ground, run, saw
from vallis.core import tree
from vallis.core.errors import LossError
from vallis.core.losses import CrossEntropy
from vallis.core.own import coordinates
from vallis.core.protocols import Model, Problem, Training
from vallis.core.rng import Rng
from vallis.core.spec import digest, from_spec, to_spec
from vallis.core.types import Net
from vallis.testing.toys.models import LinearModel, TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs, LinearRegression, QuadraticBowl, regression_minimum
from vallis.training.gradient_descent import GradientDescent

NOISY = GradientDescent(dropout=0.3, augmentation="crop_flip", batch_size=7, max_steps=9, learning_rate=0.05)


def by_hand(
    steps: int, batch_size: int, make: Any, problem: Problem | None = None, model: Model | None = None
) -> torch.nn.Module:
    """The loop that anybody would write, on the same batches."""
    net, tasks = ground(problem, model)
    module = net.module.train()
    optimizer = make(module.parameters())
    (whole,) = tasks[0].splits["train"]
    stream, epoch, done = Rng(0).child("training"), 0, 0
    while True:
        order = torch.randperm(len(whole), generator=stream.child("order", epoch).torch())
        for chosen in order.split(batch_size):
            if done == steps:
                return module
            optimizer.zero_grad()
            F.cross_entropy(module(whole.x[chosen]), whole.y[chosen]).backward()
            optimizer.step()
            done += 1
        epoch += 1


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({}, lambda p: torch.optim.SGD(p, lr=0.05)),
        (
            {"momentum": 0.9, "weight_decay": 0.01, "options": {"nesterov": True}},
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
        ),
        (
            {"optimizer": "Adam", "weight_decay": 0.01, "options": {"betas": [0.8, 0.99]}},
            lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.01, betas=(0.8, 0.99)),
        ),
        (
            {"optimizer": "RMSprop", "momentum": 0.5},
            lambda p: torch.optim.RMSprop(p, lr=0.05, momentum=0.5),
        ),
    ],
)
def test_it_is_the_loop_that_anybody_would_write(settings: dict[str, Any], make: Any) -> None:
    training = GradientDescent(**settings, learning_rate=0.05, batch_size=10, max_steps=33)
    found, _ = run(training)
    expected = by_hand(33, 10, make)
    for name, value in expected.named_parameters():
        assert torch.equal(found.params[name], value), name


@pytest.mark.parametrize("batch_size", [1, 23])  # of 24
def test_a_picture_alone_is_normalised_as_torch_does_it(batch_size: int) -> None:
    training = GradientDescent(learning_rate=0.05, momentum=0.9, batch_size=batch_size, max_steps=31)
    model = TinyConvnet(dropout=0.0)
    found, _ = run(training, Bars(), model)
    expected = by_hand(31, batch_size, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), Bars(), model)
    for name, value in (*expected.named_parameters(), *expected.named_buffers()):
        assert torch.equal({**found.params, **found.buffers}[name], value), name


def test_lbfgs_finds_the_minimum_of_a_quadratic() -> None:
    options = {"line_search_fn": "strong_wolfe", "tolerance_change": 1e-15, "tolerance_grad": 1e-12}
    training = GradientDescent(optimizer="LBFGS", learning_rate=1.0, batch_size=None, max_steps=3, options=options)
    found, infos = run(training, LinearRegression(), LinearModel())
    minimum = regression_minimum(found.task)
    assert torch.allclose(found.params["weight"][0], minimum, atol=1e-8)
    assert infos[0].loss > infos[-1].loss


def test_full_batch_descent_on_a_bowl_is_the_closed_form() -> None:
    """``w_t - w* = (1 - lr H)^t (w_0 - w*)``."""
    training = GradientDescent(learning_rate=0.05, batch_size=None, max_steps=17)
    found, infos = run(training, QuadraticBowl(eigenvalues=(8.0, 2.0, 0.5)), LinearModel())
    (batch,) = found.task.splits["train"]
    hessian = 2 / 3 * batch.x.T @ batch.x
    minimum = regression_minimum(found.task)
    left = torch.linalg.matrix_power(torch.eye(3, dtype=torch.float64) - 0.05 * hessian, 17) @ minimum
    assert torch.allclose(found.params["weight"][0], minimum - left, atol=1e-12)
    assert infos[0].loss == pytest.approx(float(0.5 * minimum @ hessian @ minimum), rel=1e-12)


@pytest.mark.parametrize("training", [NOISY, replace(NOISY, dropout=None, augmentation="none", momentum=0.9)])
def test_same_seed_same_bits(training: GradientDescent) -> None:
    (once, infos), (again, others) = (run(training, Bars(), TinyConvnet()) for _ in range(2))
    assert bits(once) == bits(again)
    assert saw(infos) == saw(others)
    assert bits(once) != bits(run(training, Bars(), TinyConvnet(), seed=1)[0])


def test_nothing_of_the_caller_is_touched() -> None:
    net, tasks = ground(Bars(), TinyConvnet())
    params, buffers = coordinates(net.module)
    held = (params, buffers, dict(net.module.state_dict()), [batch.x for batch in tasks[0].splits["train"]])
    before = tree.fingerprint(held), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    state = NOISY.init(net, params, buffers, tasks, Rng(3))
    follow(NOISY, state)
    NOISY.unpack(NOISY.pack(state), net, tasks, Rng(3))
    after = tree.fingerprint(held), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert not net.module.training
    assert all(parameter.grad is None for parameter in net.module.parameters())


def test_a_solution_owns_its_tensors() -> None:
    training = GradientDescent(max_steps=5)
    net, tasks = ground(Bars(), TinyConvnet())
    state = begin(training, net, tasks)
    first = training.solution(state)
    before = bits(first)
    assert first.step == 0
    assert tree.fingerprint(dict(first.params)) == tree.fingerprint(coordinates(net.module)[0])
    follow(training, state)
    assert bits(first) == before
    last = training.solution(state)
    assert last.step == 5
    assert bits(last) != before
    assert not torch.equal(last.buffers["1.running_mean"], first.buffers["1.running_mean"])


def test_a_step_says_what_it_saw() -> None:
    training = GradientDescent(batch_size=10, max_steps=10)
    net, tasks = ground()
    state = begin(training, net, tasks)
    (whole,) = tasks[0].splits["train"]
    before = training.solution(state)
    info = training.step(state)
    assert info.index is not None
    assert info.losses is not None
    assert info.correct is not None
    chosen = info.index - whole.index[0]
    outputs = torch.func.functional_call(net.module, dict(before.params), (whole.x[chosen],))
    assert torch.allclose(info.losses, F.cross_entropy(outputs, whole.y[chosen], reduction="none"))
    assert info.loss == pytest.approx(float(info.losses.mean()), rel=1e-6)
    assert torch.equal(info.correct, outputs.argmax(1) == whole.y[chosen])
    assert (info.step, info.done) == (1, False)


def test_an_epoch_sees_every_example_once_and_each_in_another_order() -> None:
    training = GradientDescent(batch_size=10, max_steps=10)  # 48 examples: four batches of ten and one of eight
    net, tasks = ground()
    infos = follow(training, begin(training, net, tasks))
    epochs = [
        torch.cat([info.index for info in infos[start : start + 5] if info.index is not None]) for start in (0, 5)
    ]
    assert all(torch.equal(epoch.sort().values, torch.arange(48)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_tasks_are_learned_in_sequence() -> None:
    problem = Blobs(angles=(0.0, math.pi / 2), distance=6.0)
    training = GradientDescent(batch_size=16, max_steps=60, learning_rate=0.3, momentum=0.9)
    net, tasks = ground(problem)
    state = begin(training, net, tasks)
    infos = follow(training, state)
    assert [info.done for info in infos] == [False] * 119 + [True]
    seen = torch.cat([info.index for info in infos if info.index is not None])
    first, second = (torch.cat([batch.index for batch in task.splits["train"]]) for task in tasks)
    assert set(seen[: 60 * 16].tolist()) == set(first.tolist())
    assert set(seen[60 * 16 :].tolist()) == set(second.tolist())
    solution = training.solution(state)
    assert [task.name for task in solution.tasks] == ["blobs_0", "blobs_1"]
    assert solution.on("blobs_1").task is tasks[1]
    # The first task alone is the first half, and the second starts there with a fresh optimizer.
    alone, _ = run(training, Blobs(distance=6.0))
    half = begin(training, net, tasks)
    follow(training, half, 60)
    assert bits(training.solution(half)) == bits(alone)
    assert all(not kept for kept in half.optimizer.state.values())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"stop_train_loss": 0.2}, "train_loss"),
        ({"stop_train_accuracy": 1.0}, "train_accuracy"),
        ({"stop_train_accuracy": 0.9, "stop_train_loss": 0.0}, "train_accuracy"),
        ({"stop_train_loss": -1.0}, "max_steps"),
    ],
)
def test_stop_rules(settings: dict[str, Any], reason: str) -> None:
    training = GradientDescent(batch_size=16, max_steps=300, learning_rate=0.5, **settings)
    solution, infos = run(training, Blobs(distance=8.0))
    assert infos[-1].reason == reason
    assert infos[-1].done
    assert solution.step == len(infos)
    if reason != "max_steps":
        assert len(infos) % 3 == 0, "the rules are looked at when an epoch ends"
        assert len(infos) < 300
        # One epoch less did not fulfil it: it stopped as soon as it could.
        _, shorter = run(replace(training, max_steps=len(infos) - 3), Blobs(distance=8.0))
        assert shorter[-1].reason == "max_steps"


def test_stop_rules_look_at_the_whole_split_in_eval_mode() -> None:
    """Half of the units are dropped, so that in train mode no loss is this small."""
    problem, model = Blobs(distance=10.0), TinyMlp(widths=(8,), dropout=0.5)
    training = GradientDescent(batch_size=16, max_steps=2000, learning_rate=0.5, stop_train_loss=0.02)
    solution, infos = run(training, problem, model)
    assert infos[-1].reason == "train_loss"
    (whole,) = solution.task.splits["train"]
    outputs = torch.func.functional_call(solution.net.module, dict(solution.params), (whole.x,))
    assert float(F.cross_entropy(outputs, whole.y)) <= 0.02


def test_check_every_skips_epochs() -> None:
    training = GradientDescent(batch_size=16, max_steps=300, stop_train_accuracy=0.01, check_every=4)
    _, infos = run(training)
    assert len(infos) == 3 * 4


def test_divergence_is_an_ending_and_no_exception() -> None:
    training = GradientDescent(learning_rate=1e20, batch_size=None, max_steps=50)
    solution, infos = run(training, LinearRegression(), LinearModel())
    assert infos[-1].done
    assert infos[-1].reason == "diverged"
    assert len(infos) < 50
    assert solution.step == infos[-1].step


def test_weights_that_overflow_in_the_last_update_have_diverged() -> None:
    training = GradientDescent(learning_rate=1e308, batch_size=None, max_steps=1)
    _, infos = run(training, LinearRegression(), LinearModel())
    assert math.isfinite(infos[0].loss)
    assert infos[0].reason == "diverged"


def test_a_state_that_is_done_stays_as_it_is() -> None:
    training = GradientDescent(max_steps=2)
    net, tasks = ground()
    state = begin(training, net, tasks)
    follow(training, state)
    before = bits(training.solution(state))
    info = training.step(state)
    assert (info.step, info.done, info.reason) == (2, True, "max_steps")
    assert math.isnan(info.loss)
    assert bits(training.solution(state)) == before


def test_no_steps_are_an_untrained_net() -> None:
    solution, infos = run(GradientDescent(max_steps=0))
    assert [info.done for info in infos] == [True]
    net, _ = ground()
    assert tree.fingerprint(dict(solution.params)) == tree.fingerprint(coordinates(net.module)[0])


def test_dropout_replaces_that_of_the_net() -> None:
    net, tasks = ground(model=TinyMlp(dropout=0.9))
    for dropout, expected in ((None, 0.9), (0.25, 0.25), (0.0, 0.0)):
        state = begin(GradientDescent(dropout=dropout), net, tasks)
        found = [m.p for m in state.module.modules() if isinstance(m, torch.nn.Dropout)]
        assert found == [expected, expected]
    assert [m.p for m in net.module.modules() if isinstance(m, torch.nn.Dropout)] == [0.9, 0.9]


def test_frozen_parameters_stay() -> None:
    net, tasks = ground()
    net.module[1].weight.requires_grad_(False)
    training = GradientDescent(max_steps=4)
    params, buffers = coordinates(net.module)
    state = training.init(net, params, buffers, tasks, Rng(0))
    follow(training, state)
    found = training.solution(state)
    assert torch.equal(found.buffers["1.weight"], buffers["1.weight"])
    assert not torch.equal(found.params["3.weight"], params["3.weight"])


def test_tied_weights_stay_tied() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2))
    module[2].weight = module[0].weight
    _, tasks = ground()
    net = Net(module=module.eval())
    params, buffers = coordinates(module)
    assert len(params) == 3
    training = GradientDescent(max_steps=3)
    state = training.init(net, params, buffers, tasks, Rng(0))
    follow(training, state)
    assert state.module[0].weight is state.module[2].weight
    assert not torch.equal(training.solution(state).params["0.weight"], params["0.weight"])


class Counting(torch.nn.Module):
    """Puts a new tensor in the place of its buffer, as user code does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Any:
        if self.training:
            self.calls = self.calls + 1
        return self.linear(x)


def test_buffers_that_are_replaced_are_followed() -> None:
    training = GradientDescent(max_steps=6)
    _, tasks = ground()
    net = Net(module=Counting().eval())
    state = begin(training, net, tasks)
    follow(training, state, 3)
    assert float(training.solution(state).buffers["calls"]) == 3
    again = training.unpack(training.pack(state), net, tasks, Rng(0).child("training"))
    follow(training, again)
    assert float(training.solution(again).buffers["calls"]) == 6


class Inseparable(CrossEntropy):
    """A loss that is a mean, and cannot say of what."""

    def per_example(self, outputs: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        raise LossError("a loss of each example was required, there is none: give another")


def test_a_loss_that_cannot_be_taken_apart_trains_all_the_same() -> None:
    net, (task,) = ground()
    training = GradientDescent(max_steps=3)
    infos = follow(training, begin(training, net, (replace(task, loss=Inseparable()),)))
    assert [info.losses for info in infos] == [None] * 3
    assert infos[0].correct is not None


def test_gradients_are_taken_where_the_caller_has_switched_them_off() -> None:
    with torch.no_grad():
        once, _ = run(GradientDescent(max_steps=3))
    assert bits(once) == bits(run(GradientDescent(max_steps=3))[0])


def test_it_is_a_training_and_its_settings_survive_json() -> None:
    training = GradientDescent(optimizer="Adam", options={"betas": [0.8, 0.9], "amsgrad": True, "eps": 1})
    assert isinstance(training, Training)
    again = from_spec(to_spec(training))
    assert again == training
    assert digest(again) == digest(training)
    assert again.options == {"betas": (0.8, 0.9), "amsgrad": True, "eps": 1}
    assert [type(value) for value in again.options.values()] == [tuple, bool, int]
