from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.runs import begin, bits, follow, ground, saw
from vallis.core.data import Arrays
from vallis.core.losses import CrossEntropy, SquaredError
from vallis.core.types import Net
from vallis.models.convnet import Convnet
from vallis.models.mlp import Mlp
from vallis.numerics.stacked import Stacked
from vallis.testing.toys.models import LinearModel
from vallis.testing.toys.problems import Bars, Blobs, LinearRegression
from vallis.training import gradient_descent
from vallis.training._descent_line import slope_of, slopes_of
from vallis.training.gradient_descent import GradientDescent

PLAIN = GradientDescent(learning_rate=0.1, momentum=0.9, weight_decay=0.01, batch_size=7, max_steps=12)


@pytest.mark.parametrize(
    ("problem", "model", "training"),
    [
        (Blobs(), Mlp(widths=(9, 8), activation="gelu", dropout=0.3), PLAIN),
        (Blobs(angles=(0.0, 1.0)), Mlp(widths=(9,)), PLAIN),
        (Bars(), Convnet(channels=(3, 4), batch_norm=True), replace(PLAIN, augmentation="crop_flip")),
        (LinearRegression(), LinearModel(), replace(PLAIN, learning_rate=0.01)),
        *(
            (Blobs(), Mlp(widths=(9,)), replace(PLAIN, optimizer=name, momentum=0.0, weight_decay=0.0))
            for name in ("ASGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "Rprop")
        ),
    ],
)
def test_a_line_has_the_bits_of_autograd(
    problem: Any, model: Any, training: GradientDescent, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, tasks = ground(problem, model)
    quick = begin(training, net, tasks)
    assert quick.line is not None
    found = saw(follow(training, quick)), bits(training.solution(quick))
    monkeypatch.setattr(gradient_descent.Line, "of", staticmethod(lambda *_: None))
    plain = begin(training, net, tasks)
    assert plain.line is None
    assert found == (saw(follow(training, plain)), bits(training.solution(plain)))


def test_what_is_no_line_is_left_to_autograd() -> None:
    net, tasks = ground()
    assert begin(GradientDescent(optimizer="LBFGS", batch_size=None), net, tasks).line is None
    recurrent = Net(module=nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.RReLU()).eval())
    assert begin(PLAIN, recurrent, tasks).line is None


def test_numbers_that_a_vector_rounds_otherwise_at_its_end_are_left_to_autograd() -> None:
    net, (task,) = ground(Blobs(), Mlp(widths=(9,)))
    train = task.splits["train"]
    assert isinstance(train, Arrays)
    halved = replace(task, splits={"train": replace(train, x=train.x.bfloat16())})
    assert begin(PLAIN, net, (task,)).line is not None
    assert begin(PLAIN, Net(module=net.module.bfloat16()), (halved,)).line is None


def test_weights_in_another_layout_are_left_to_autograd() -> None:
    net, tasks = ground(Bars(), Convnet(channels=(3, 4)))
    assert begin(PLAIN, net, tasks).line is not None
    net.module.to(memory_format=torch.channels_last)
    assert begin(PLAIN, net, tasks).line is None


def test_every_parameter_begins_where_a_tensor_of_its_own_would() -> None:
    net, tasks = ground(Blobs(), Mlp(widths=(9, 8)))
    state = begin(PLAIN, net, tasks)
    assert state.line is not None
    assert all(parameter.data_ptr() % 64 == 0 for parameter in state.params.values())
    first, *_ = state.params.values()
    assert first.untyped_storage().data_ptr() == state.line.flat.untyped_storage().data_ptr()


@pytest.mark.parametrize("ignored", [0, 2])
@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.1), CrossEntropy(ignore_index=3)])
@pytest.mark.parametrize("size", [(16, 8), (7, 5)])
def test_slopes_are_those_of_autograd(loss: CrossEntropy, size: tuple[int, int], ignored: int) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(size, generator=generator) for _ in range(3)]
    targets = [torch.randint(0, size[1], size[:1], generator=generator) for _ in outputs]
    for target in targets:
        target[:ignored] = loss.ignore_index
    values, slopes = slopes_of(loss, Stacked.apart(outputs).together(), torch.stack(targets))
    for k, (scores, y) in enumerate(zip(outputs, targets, strict=True)):
        leaf = scores.clone().requires_grad_()
        value = loss.mean(leaf, y)
        (expected,) = torch.autograd.grad(value, leaf)
        own, slope = slope_of(loss, scores, y)
        assert values[k] == float(value.detach()) == float(own)
        assert torch.equal(slopes.members[k], expected)
        assert torch.equal(slope, expected)


def test_other_losses_are_differentiated_as_they_are() -> None:
    outputs, y = torch.randn(5, 3), torch.randn(5, 3)
    value, slope = slope_of(SquaredError(), outputs, y)
    assert torch.equal(value, ((outputs - y) ** 2).mean())
    torch.testing.assert_close(slope, 2 * (outputs - y) / 15)
