"""Steps by hand, the identity, and that the tasks of a solution are those that came."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from tests.training.runs import bits, follow, ground
from vallis.core.errors import LossError, SettingsError
from vallis.core.losses import CrossEntropy
from vallis.core.own import coordinates
from vallis.core.protocols import Training
from vallis.core.rng import Rng
from vallis.core.robust_losses import Robust
from vallis.core.robust_losses import RobustLoss as Loss
from vallis.core.types import Solution
from vallis.problems.noisy_labels import NoisyLabels
from vallis.testing.conformance.trainings import CHECKS
from vallis.testing.toys.models import TinyMlp
from vallis.testing.toys.problems import Blobs, LinearRegression
from vallis.training.gradient_descent import GradientDescent
from vallis.training.robust_loss import RobustLoss

DESCENT = GradientDescent(learning_rate=0.2, momentum=0.9, batch_size=8, max_steps=60)
NOISY = NoisyLabels(base=Blobs(num_classes=3, num_train=60), rate=0.3)


def run(part: Training, problem: Any = NOISY) -> Solution:
    net, tasks = ground(problem, TinyMlp())
    state = part.init(net, *coordinates(net.module), tasks, Rng(0).child("training"))
    follow(part, state)  # type: ignore[arg-type]
    return part.solution(state)


@pytest.mark.parametrize("name", get_args(Robust))
def test_it_goes_down_its_loss(name: Robust) -> None:
    """A first step of plain descent by hand; the solution is judged by cross-entropy, as the task says."""
    part = RobustLoss(base=GradientDescent(learning_rate=0.3, batch_size=None, max_steps=1), loss=name)
    net, tasks = ground(NOISY, TinyMlp())
    params, buffers = coordinates(net.module)
    state = part.init(net, params, buffers, tasks, Rng(0))
    info = part.step(state)
    (batch,) = tasks[0].splits["train"]
    leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
    loss = Loss(name=name).mean(torch.func.functional_call(net.module, leaves, (batch.x,)), batch.y)
    slopes = torch.autograd.grad(loss, list(leaves.values()))
    assert info.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    found = part.solution(state)
    for (key, value), slope in zip(params.items(), slopes, strict=True):
        torch.testing.assert_close(found.params[key], value - 0.3 * slope, rtol=1e-5, atol=1e-6)
    assert found.tasks == tasks and isinstance(found.task.loss, CrossEntropy)


def test_bootstrapping_with_all_of_the_label_is_cross_entropy() -> None:
    plain, same = run(DESCENT), run(RobustLoss(base=DESCENT, label_share=1.0))
    for key, value in plain.params.items():
        torch.testing.assert_close(same.params[key], value, rtol=1e-3, atol=1e-4)
    assert bits(plain) != bits(run(RobustLoss(base=DESCENT, loss="sigmoid")))


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(LossError, match="cross-entropy over classes"):
        run(RobustLoss(base=DESCENT), LinearRegression())
    with pytest.raises(SettingsError, match=r"robust_loss\.loss"):
        RobustLoss(base=DESCENT, loss="hinge")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"robust_loss\.label_share"):
        RobustLoss(base=DESCENT, label_share=2.0)


@pytest.mark.parametrize("name", ["ramp", "bootstrap"])
def test_it_conforms(name: Robust) -> None:
    for check in CHECKS.values():
        check(RobustLoss(base=GradientDescent(max_steps=4, batch_size=8), loss=name))
