"""A saved state resumes bit for bit: through JSON and safetensors, at any step."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from tests.training.runs import begin, bits, follow, ground, saw
from vallis.core.rng import Rng
from vallis.core.types import Packed
from vallis.testing.toys.models import TinyConvnet, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs
from vallis.training.gradient_descent import GradientDescent

STEPS = 12
BATCHES = {"batch_size": 10, "max_steps": STEPS, "learning_rate": 0.05}
CASES: dict[str, tuple[GradientDescent, Any, Any]] = {
    "sgd": (GradientDescent(momentum=0.9, weight_decay=0.01, **BATCHES), Blobs(), TinyMlp()),
    "adam": (GradientDescent(optimizer="Adam", options={"amsgrad": True}, **BATCHES), Blobs(), TinyMlp()),
    "adamw, scheduled": (GradientDescent(optimizer="AdamW", schedule="cosine", **BATCHES), Blobs(), TinyMlp()),
    "adagrad": (GradientDescent(optimizer="Adagrad", **BATCHES), Blobs(), TinyMlp()),
    "lbfgs": (
        GradientDescent(optimizer="LBFGS", options={"max_iter": 4, "history_size": 5}, **BATCHES),
        Blobs(),
        TinyMlp(),
    ),
    "lbfgs, line search, whole batch, dropout": (
        GradientDescent(
            optimizer="LBFGS",
            options={"line_search_fn": "strong_wolfe", "max_iter": 3},
            batch_size=None,
            max_steps=STEPS,
            dropout=0.2,
        ),
        Blobs(),
        TinyMlp(dropout=0.1),
    ),
    "dropout, augmentation, batch normalisation": (
        GradientDescent(dropout=0.3, augmentation="crop_flip", momentum=0.9, **BATCHES),
        Bars(),
        TinyConvnet(),
    ),
    "two tasks, in float64": (
        GradientDescent(optimizer="Adam", batch_size=10, max_steps=STEPS // 2),
        Blobs(angles=(0.0, 1.0), double=True),
        TinyMlp(double=True),
    ),
}


def through_files(packed: Packed) -> Packed:
    """As the store keeps it. Safetensors do not keep the order of names, so neither may anything depend on it."""
    tensors = load(save(dict(packed.tensors)))
    return Packed(
        tensors=dict(sorted(tensors.items(), reverse=True)),
        values=json.loads(json.dumps(packed.values, allow_nan=False, sort_keys=True)),
    )


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(stop=st.integers(0, STEPS))
def test_a_state_at_rest_goes_on_bit_for_bit(case: str, stop: int) -> None:
    training, problem, model = CASES[case]
    net, tasks = ground(problem, model)
    state = begin(training, net, tasks)
    first = follow(training, state, stop) if stop else []
    packed = through_files(training.pack(state))
    rest = follow(training, state) if stop < STEPS else []
    again = training.unpack(packed, net, tasks, Rng(0).child("training"))
    others = follow(training, again) if stop < STEPS else []
    assert saw(rest) == saw(others)
    assert len(first) + len(rest) == STEPS
    assert bits(training.solution(state)) == bits(training.solution(again))
    assert training.solution(again).step == STEPS


@pytest.mark.parametrize("case", CASES)
def test_what_is_packed_no_longer_changes(case: str) -> None:
    training, problem, model = CASES[case]
    net, tasks = ground(problem, model)
    state = begin(training, net, tasks)
    follow(training, state, 5)
    packed = training.pack(state)
    kept = {name: value.clone() for name, value in packed.tensors.items()}
    follow(training, state)
    assert all((packed.tensors[name] == value).all() for name, value in kept.items())


def test_a_finished_state_stays_finished() -> None:
    training, problem, model = CASES["sgd"]
    net, tasks = ground(problem, model)
    state = begin(training, net, tasks)
    follow(training, state)
    again = training.unpack(through_files(training.pack(state)), net, tasks, Rng(0).child("training"))
    info = training.step(again)
    assert (info.step, info.done, info.reason) == (STEPS, True, "max_steps")


def test_a_forgotten_optimizer_would_be_noticed() -> None:
    """The tests above pass trivially if the optimizer's memory made no difference."""
    training, problem, model = CASES["sgd"]
    net, tasks = ground(problem, model)
    state = begin(training, net, tasks)
    follow(training, state, 5)
    packed = through_files(training.pack(state))
    blank = Packed(tensors=packed.tensors, values={**packed.values, "optimizer": {}})
    again = training.unpack(blank, net, tasks, Rng(0).child("training"))
    follow(training, state)
    follow(training, again)
    assert bits(training.solution(state)) != bits(training.solution(again))
