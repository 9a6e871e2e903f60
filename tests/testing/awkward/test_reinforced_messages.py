"""Belief propagation is a training like any other: solved, at rest and resumed bit for bit, run by the one loop."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from vallis.core.errors import ModelError
from vallis.core.own import coordinates
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.types import Job, Packed
from vallis.run.train import train
from vallis.testing.awkward.binary_perceptron import BinaryPerceptron, SignPatterns
from vallis.testing.awkward.reinforced_messages import ReinforcedMessages
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs

TRAINING = ReinforcedMessages()
JOB = Job(problem=SignPatterns(load=0.5), model=BinaryPerceptron(), training=TRAINING)


def begin(seed: int, load: float = 0.45) -> tuple[Any, tuple[Any, ...]]:
    tasks = SignPatterns(load=load).build(Rng(seed))
    net = BinaryPerceptron().build(tasks, Rng(seed))
    return TRAINING.init(net, *coordinates(net.module), tasks, Rng(seed)), (net, tasks, Rng(seed))


@pytest.mark.parametrize("seed", range(5))
def test_it_solves_what_can_be_solved(seed: int) -> None:
    state, (_, tasks, _) = begin(seed)
    info = TRAINING.step(state)
    while not info.done:
        info = TRAINING.step(state)
    assert info.reason == "solved"
    weight = TRAINING.solution(state).params["weight"]
    (batch,) = tasks[0].splits["train"]
    assert weight.abs().eq(1).all()
    assert int((((batch.x @ weight) > 0) != (batch.y > 0.5)).sum()) == 0


def test_it_says_when_it_has_not() -> None:
    state, _ = begin(0, load=1.2)  # above capacity
    for _ in range(TRAINING.max_steps):
        info = TRAINING.step(state)
    assert (info.done, info.reason, info.step) == (True, "max_steps", TRAINING.max_steps)
    assert info.correct is not None
    assert not info.correct.all()


def test_at_rest_it_goes_on_bit_for_bit() -> None:
    state, rest = begin(1)
    for _ in range(20):
        TRAINING.step(state)
    packed = TRAINING.pack(state)
    files = Packed(tensors=load(save(dict(packed.tensors))), values=json.loads(json.dumps(packed.values)))
    again = TRAINING.unpack(files, *rest)
    infos = [(TRAINING.step(state), TRAINING.step(again)) for _ in range(30)]
    assert all(a.loss == b.loss and torch.equal(a.correct, b.correct) for a, b in infos)  # type: ignore[arg-type]
    for name in ("means", "pulls", "bias"):
        assert torch.equal(getattr(state, name), getattr(again, name))
    assert state.step == again.step == 50


def test_before_the_first_sweep_it_stands_at_the_given_weights() -> None:
    state, (net, *_) = begin(0)
    assert torch.equal(TRAINING.solution(state).params["weight"], coordinates(net.module)[0]["weight"])


def test_the_one_loop_over_steps_runs_it() -> None:
    assert isinstance(TRAINING, Training)
    first, last = train(Job(problem=JOB.problem, model=JOB.model, training=TRAINING, snapshots=(0,)))
    assert (first.step, last.step > 0) == (0, True)
    assert last.origin is not None
    again = train(JOB)[-1]
    assert torch.equal(again.params["weight"], last.params["weight"])


def test_other_nets_are_refused() -> None:
    tasks = Blobs().build(Rng(0))
    net = TinyMlp().build(tasks, Rng(0))
    with pytest.raises(ModelError, match="binary perceptron"):
        TRAINING.init(net, *coordinates(net.module), tasks, Rng(0))
