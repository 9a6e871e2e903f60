from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from tests.models.expect import tasks
from vallis.core.data import Arrays
from vallis.core.errors import ModelError
from vallis.core.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from vallis.core.rng import Rng
from vallis.core.types import Task
from vallis.models import _build
from vallis.models._build import build_net, drawing, example_shape, image_shape, num_outputs


def net_of(rule: _build.Init, *parts: nn.Module) -> nn.Module:
    return build_net(lambda: nn.Sequential(*parts), drawing(rule), Rng(0)).module


@pytest.mark.parametrize(
    ("rule", "variance"),
    [("torch", 1 / (3 * 72)), ("he", 2 / 72), ("glorot", 2 / (72 + 64 * 9)), ("he_out", 2 / (64 * 9))],
)
def test_the_variance_of_the_initial_weights(rule: _build.Init, variance: float) -> None:
    layer = net_of(rule, nn.Conv2d(8, 64, 3))[0]  # type: ignore[index]
    weights = layer.weight.detach()
    assert float(weights.var()) == pytest.approx(variance, rel=0.05)
    assert abs(float(weights.mean())) < 4 * (variance / weights.numel()) ** 0.5
    if rule == "torch":
        assert float(weights.abs().max()) <= 72**-0.5
        assert 0 < float(layer.bias.detach().abs().max()) <= 72**-0.5
    else:
        assert not layer.bias.any()


def test_torchs_rule_is_torchs() -> None:
    """Same bounds and same variance as what nn.Linear draws for itself."""
    own = nn.Linear(50, 2000)
    ours = net_of("torch", nn.Linear(50, 2000))[0]  # type: ignore[index]
    for mine, theirs in ((ours.weight, own.weight), (ours.bias, own.bias)):
        assert float(mine.detach().std()) == pytest.approx(float(theirs.detach().std()), rel=0.05)
        assert float(mine.detach().abs().max()) == pytest.approx(float(theirs.detach().abs().max()), rel=0.01)


def test_to_change_one_layer_changes_no_other() -> None:
    small = net_of("he", nn.Linear(4, 5), nn.Linear(5, 6))
    large = net_of("he", nn.Linear(4, 5), nn.Linear(5, 9))
    assert small[0].weight.equal(large[0].weight)  # type: ignore[index]
    assert small[1].weight.shape != large[1].weight.shape  # type: ignore[index]


def test_norms_start_neutral() -> None:
    norm = net_of("he", nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4))[1]  # type: ignore[index]
    assert norm.weight.equal(torch.ones(4))
    assert norm.running_var.equal(torch.ones(4))
    assert not norm.bias.any()
    assert not norm.running_mean.any()
    assert norm.num_batches_tracked == 0


def test_every_activation_of_the_setting_exists() -> None:
    assert set(get_args(_build.Activation)) == set(_build.ACTIVATIONS)
    assert {rule: drawing(rule) for rule in get_args(_build.Init)}.keys() == {"torch", "he", "glorot", "he_out"}


def test_shapes_are_read_off_the_first_batch() -> None:
    assert example_shape(tasks((3, 5, 4)), "m") == (3, 5, 4)
    assert image_shape(tasks((3, 5, 4)), "m") == (3, 5, 4)
    with pytest.raises(ModelError, match=r"m requires images \(N, C, H, W\)"):
        image_shape(tasks((7,)), "m")
    with pytest.raises(ModelError, match="at least 5x5 pixels, 5x4 came"):
        image_shape(tasks((3, 5, 4)), "m", least=5)


def test_inputs_that_are_no_tensor_are_refused() -> None:
    (task,) = tasks((3,))
    graphs = Arrays(x=[{"edges": 1}] * 10, y=torch.arange(10), index=torch.arange(10))
    with pytest.raises(ModelError, match=r"m requires inputs .* in one tensor, list came"):
        example_shape((replace(task, splits={"train": graphs}),), "m")
    flat = Arrays(x=torch.zeros(10), y=torch.arange(10), index=torch.arange(10))
    with pytest.raises(ModelError, match="shape"):
        example_shape((replace(task, splits={"train": flat}),), "m")


def with_targets(y: torch.Tensor, test: torch.Tensor | None = None) -> dict[str, Arrays]:
    held = {"train": y} if test is None else {"train": y, "test": test}
    return {name: Arrays(x=torch.zeros(len(t), 2), y=t, index=torch.arange(len(t))) for name, t in held.items()}


def test_the_number_of_outputs() -> None:
    classes, binary, numbers = CrossEntropy(), BinaryCrossEntropy(), SquaredError()
    seven = Task(name="a", splits=with_targets(torch.tensor([0, 6, -100])), loss=classes)
    assert num_outputs((seven,)) == 7
    assert num_outputs((Task(name="b", splits=with_targets(torch.zeros(3).long()), loss=classes),)) == 2
    # A class that only the test set knows, or a later task, needs its place too.
    wider = Task(name="c", splits=with_targets(torch.tensor([0, 1]), torch.tensor([8])), loss=classes)
    assert num_outputs((wider,)) == 9
    assert num_outputs((seven, wider)) == 9
    assert num_outputs((Task(name="d", splits=with_targets(torch.tensor([0, 1])), loss=binary),)) == 1
    assert num_outputs((Task(name="e", splits=with_targets(torch.zeros(4, 3)), loss=numbers),)) == 3
    assert num_outputs((Task(name="f", splits=with_targets(torch.zeros(4)), loss=numbers),)) == 1
    assert num_outputs((Task(name="g", splits=with_targets(torch.rand(4, 5)), loss=classes),)) == 5
    words = torch.tensor([[0, 11, -100], [3, 2, 1]])
    assert num_outputs((Task(name="h", splits=with_targets(words), loss=classes),)) == 12


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float64])
def test_inputs_of_another_type_than_the_weights_are_refused(dtype: torch.dtype) -> None:
    """Torch's own error came, out of the first step."""
    (task,) = tasks((3,))
    given = Arrays(x=torch.ones(10, 3).to(dtype), y=torch.arange(10), index=torch.arange(10))
    other = (replace(task, splits={"train": given}),)
    with pytest.raises(ModelError, match=r"m requires inputs of float32 as its weights, .* came: let the problem give"):
        example_shape(other, "m")
    assert example_shape(other, "m", dtype=None) == (3,)
