from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.expect import ALL_SIZES, RGB28, a_good_net, num_parameters, tasks
from vallis.core.errors import ModelError, SettingsError
from vallis.core.rng import Rng
from vallis.models.alexnet_small import AlexnetSmall


def test_the_papers_count() -> None:
    """Zhang et al. 2017, on 28x28x3."""
    assert num_parameters(AlexnetSmall().build(tasks(RGB28), Rng(0))) == 1_387_786


@pytest.mark.parametrize("shape", ALL_SIZES)
def test_images_of_any_size(shape: tuple[int, ...]) -> None:
    a_good_net(AlexnetSmall(), shape)


def test_the_response_is_normalised_over_nine_channels() -> None:
    net = AlexnetSmall().build(tasks(RGB28), Rng(0)).module
    norm = net.get_submodule("norm1")
    x = torch.randn(2, 64, 3, 3, generator=torch.Generator().manual_seed(0)) * 20
    squares = torch.stack([x[:, max(c - 4, 0) : c + 5].square().sum(1) for c in range(64)], dim=1)
    torch.testing.assert_close(norm(x), x / (1 + 0.001 / 9 * squares) ** 0.75)
    order = [type(m) for m in net.children()][:8]
    assert order == [nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.LocalResponseNorm] * 2


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="alexnet_small requires images"):
        AlexnetSmall().build(tasks((64,)), Rng(0))
    with pytest.raises(SettingsError, match=r"alexnet_small\.dropout"):
        AlexnetSmall(dropout=1.0)
    with pytest.raises(SettingsError, match=r"alexnet_small\.init"):
        AlexnetSmall(init="best")  # type: ignore[arg-type]
