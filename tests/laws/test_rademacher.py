"""The empirical Rademacher complexity of networks is about 1: both those that are trained and those that are built.

``R = E_sigma sup_h (1/n) sum_i sigma_i h(x_i)`` over random signs sigma. One network h with values in [-1, 1] that fits
the signs gives a lower bound; for the sign of a score it is 2 times the training accuracy, minus 1.

Source: Zhang et al. (2017), section 2.2.
"""

from __future__ import annotations

import pytest
import torch

from vallis.core.data import Arrays
from vallis.core.losses import BinaryCrossEntropy
from vallis.core.protocols import Model, Training
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.models.memorizing_network import MemorizingNetwork
from vallis.models.mlp import Mlp
from vallis.problems.digits import load_digits
from vallis.training.gradient_descent import GradientDescent

TRAINED = GradientDescent(learning_rate=0.05, momentum=0.9, batch_size=32, max_steps=3000, stop_train_accuracy=1.0)


def correlation(model: Model, training: Training, seed: int, num_examples: int = 200) -> float:
    """``(1/n) sum_i sigma_i sign h(x_i)`` after training on digits with random signs for labels."""
    signs = torch.randint(2, (num_examples,), generator=torch.Generator().manual_seed(seed))
    split = Arrays(x=load_digits()[0][:num_examples], y=signs, index=torch.arange(num_examples))
    tasks = (Task(name="signs", splits={"train": split}, loss=BinaryCrossEntropy()),)
    net = model.build(tasks, Rng(seed))
    state = training.init(net, dict(net.module.named_parameters()), {}, tasks, Rng(seed))
    while not training.step(state).done:
        pass
    solution = training.solution(state)
    with torch.no_grad():
        scores = torch.func.functional_call(net.module, dict(solution.params), (split.x,)).reshape(-1)
    return float(((2 * signs - 1) * scores.sign()).mean())


@pytest.mark.parametrize(
    ("model", "training"),
    [(Mlp(widths=(512,)), TRAINED), (MemorizingNetwork(), GradientDescent(max_steps=0))],
    ids=["trained", "built"],
)
def test_random_signs_are_fitted(model: Model, training: Training) -> None:
    found = [correlation(model, training, seed) for seed in range(3)]
    assert min(found) > 0.99


def test_few_weights_cannot() -> None:
    """A linear model of 64 inputs on 400 examples: no more than about sqrt(d / n), far below 1."""
    short = GradientDescent(learning_rate=0.05, momentum=0.9, batch_size=32, max_steps=600)
    assert correlation(Mlp(widths=()), short, 0, num_examples=1000) < 0.6
