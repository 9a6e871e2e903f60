from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.models.expect import ALL_SIZES, GREY28, a_good_net, num_parameters, tasks
from vallis.core.errors import ModelError, SettingsError
from vallis.core.rng import Rng
from vallis.models.resnet20 import Resnet20


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 28, 28)])
def test_the_papers_count(shape: tuple[int, ...]) -> None:
    """Huang et al. 2019, three channels and ten classes, whatever the size of the image."""
    assert num_parameters(Resnet20().build(tasks(shape), Rng(0))) == 269_722


@pytest.mark.parametrize("shape", ALL_SIZES)
def test_images_of_any_size(shape: tuple[int, ...]) -> None:
    net = a_good_net(Resnet20(), shape)
    assert {"convolutional", "normalised"} <= net.traits


def test_it_is_the_papers_variant() -> None:
    """The forward pass written out: pre-activation, pooled and padded shortcuts, the first shortcut after its norm."""
    net = Resnet20().build(tasks(GREY28), Rng(0)).module.eval()
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))

    def part(name: str) -> nn.Module:
        return net.get_submodule(name)

    h = part("convolution")(x)
    for stage in (1, 2, 3):
        for unit in (1, 2, 3):
            name = f"unit{stage}_{unit}"
            active = F.leaky_relu(part(f"{name}.norm1")(h), 0.1)
            shortcut = active if (stage, unit) == (1, 1) else h
            inner = part(f"{name}.convolution1")(active)
            inner = part(f"{name}.convolution2")(F.leaky_relu(part(f"{name}.norm2")(inner), 0.1))
            if stage > 1 and unit == 1:
                pooled = F.avg_pool2d(shortcut, 2)
                blank = torch.zeros_like(pooled)[:, : pooled.shape[1] // 2]
                shortcut = torch.cat([blank, pooled, blank], dim=1)
            h = shortcut + inner
    h = F.leaky_relu(part("norm")(h), 0.1).mean((2, 3))
    torch.testing.assert_close(net(x), part("output")(h))


def test_its_constants() -> None:
    net = Resnet20().build(tasks((3, 32, 32)), Rng(0)).module
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 19
    for convolution in convolutions:
        assert convolution.bias is None
        assert convolution.kernel_size == (3, 3)
        expected = 2 / (9 * convolution.out_channels)
        assert float(convolution.weight.detach().var()) == pytest.approx(expected, rel=0.25)
    assert [m.stride for m in convolutions].count((2, 2)) == 2


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="resnet20 requires images"):
        Resnet20().build(tasks((64,)), Rng(0))
    with pytest.raises(SettingsError, match=r"resnet20\.negative_slope"):
        Resnet20(negative_slope=float("nan"))
