"""Settings, nets and data that gradient descent refuses, in one sentence each."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.runs import ground, run
from vallis.core.data import Arrays, Stream
from vallis.core.errors import DataError, ModelError, SettingsError, UnknownPart
from vallis.core.losses import CrossEntropy
from vallis.core.own import coordinates
from vallis.core.rng import Rng
from vallis.core.spec import build
from vallis.core.types import Task
from vallis.models.pooled_mlp import PooledMlp
from vallis.problems.poisoned import Poisoned
from vallis.testing.toys.models import LinearModel, TinyMlp
from vallis.testing.toys.problems import Bars, Blobs, LinearRegression
from vallis.training.gradient_descent import GradientDescent

NORMALISED = PooledMlp(pool=2, widths=(4,), batch_norm=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": "Adma"}, "did you mean Adam"),
        ({"optimizer": "sgd"}, "did you mean SGD"),
        ({"optimizer": "Optimizer"}, "no optimizer"),
        ({"options": {"nestrov": True}}, "did you mean nesterov"),
        ({"options": {"lr": 0.1}}, "learning_rate="),
        ({"optimizer": "LBFGS", "momentum": 0.9}, "momentum"),
        ({"optimizer": "LBFGS", "weight_decay": 0.1}, "weight_decay"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"schedule": "linear"}, "exponential"),
        ({"schedule": "step"}, "milestones"),
        ({"milestones": (3,)}, "milestones"),
        ({"schedule": "step", "milestones": (3, 2)}, "rising"),
        ({"decay": 0.0}, "decay"),
        ({"dropout": 1.0}, "dropout"),
        ({"augmentation": "twirl"}, "crop_flip"),
        ({"max_steps": -1}, "max_steps"),
        ({"check_every": 0}, "check_every"),
        ({"stop_train_accuracy": 90.0}, "at most 1"),
        ({"stop_train_loss": math.nan}, "stop_train_loss"),
        ({"max_steps": "many"}, "max_steps"),
        ({"learning_rte": 0.1}, "did you mean learning_rate"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((SettingsError, UnknownPart), match=said):
        build(GradientDescent, settings)


@pytest.mark.parametrize(
    ("training", "problem", "model", "error", "said"),
    [
        (GradientDescent(dropout=0.5), Blobs(), TinyMlp(), SettingsError, "dropout layers"),
        (GradientDescent(options={"nesterov": True}), Blobs(), TinyMlp(), SettingsError, "SGD accepts"),
        (GradientDescent(optimizer="Muon"), Blobs(), TinyMlp(), SettingsError, "Muon accepts"),
        (GradientDescent(augmentation="flip"), Blobs(), TinyMlp(), SettingsError, r"\(B, C, H, W\)"),
        (GradientDescent(stop_train_accuracy=1.0), LinearRegression(), LinearModel(), SettingsError, "stop_train_loss"),
        (GradientDescent(batch_size=23), Bars(), NORMALISED, SettingsError, "stands alone"),
        (GradientDescent(batch_size=1), Bars(), NORMALISED, SettingsError, "stands alone"),
    ],
)
def test_what_does_not_fit_the_net_is_refused(training: Any, problem: Any, model: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        run(training, problem, model)


def test_beside_poison_no_example_stands_alone() -> None:
    training = GradientDescent(batch_size=1, poison_factor=0.5, poison_batch_size=2, max_steps=3)
    _, infos = run(training, Poisoned(base=Bars(), num_poison=8), NORMALISED)
    assert len(infos) == 3 and all(math.isfinite(info.loss) for info in infos)


def test_weights_and_data_that_do_not_fit_are_refused() -> None:
    net, tasks = ground()
    params, buffers = coordinates(net.module)
    training = GradientDescent()
    with pytest.raises(ModelError, match="more"):
        training.init(net, {**params, "more": torch.zeros(1)}, buffers, tasks, Rng(0))
    with pytest.raises(ModelError, match=r"1\.bias"):
        training.init(net, {**params, "1.bias": torch.zeros(7)}, buffers, tasks, Rng(0))
    with pytest.raises(ModelError, match="binary"):
        training.init(replace(net, traits=frozenset({"binary"})), params, buffers, tasks, Rng(0))
    with pytest.raises(DataError, match="at least one task"):
        training.init(net, params, buffers, (), Rng(0))
    only_test = Task(name="odd", splits={"test": tasks[0].splits["test"]}, loss=CrossEntropy())
    with pytest.raises(DataError, match='"train"'):
        training.init(net, params, buffers, (only_test,), Rng(0))
    empty = Arrays(x=torch.zeros(0, 2), y=torch.zeros(0, dtype=torch.int64), index=torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="at least one example"):
        training.init(net, params, buffers, (replace(only_test, splits={"train": empty}),), Rng(0))
    stream = Stream(lambda: [(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))])
    with pytest.raises(DataError, match="stream"):
        training.init(net, params, buffers, (replace(only_test, splits={"train": stream}),), Rng(0))
