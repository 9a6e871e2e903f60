from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.expect import ALL_SIZES, RGB28, a_good_net, num_parameters, tasks
from vallis.core.errors import ModelError, SettingsError
from vallis.core.rng import Rng
from vallis.models.inception_small import InceptionSmall


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_papers_count(batch_norm: bool) -> None:
    """Zhang et al. 2017: weights and biases of convolutions and dense layer; the norms are not counted."""
    net = InceptionSmall(batch_norm=batch_norm).build(tasks(RGB28), Rng(0))
    assert num_parameters(net, counting_norms=False) == 1_649_402
    assert num_parameters(net) == 1_649_402 + (3424 if batch_norm else 0)


@pytest.mark.parametrize("shape", ALL_SIZES)
def test_images_of_any_size(shape: tuple[int, ...]) -> None:
    a_good_net(InceptionSmall(), shape)


def test_without_norms() -> None:
    net = a_good_net(InceptionSmall(batch_norm=False), (1, 8, 8))
    assert "normalised" not in net.traits
    assert "convolutional" in net.traits


def test_sizes_and_channels_on_the_way() -> None:
    net = InceptionSmall().build(tasks(RGB28), Rng(0)).module.eval()
    x, seen = torch.zeros(2, 3, 28, 28), []
    for name, part in net.named_children():
        x = part(x)
        if name.startswith(("stem", "block")):
            seen.append((x.shape[1], x.shape[2]))
    assert seen == [
        *((96, 28), (64, 28), (80, 28)),
        *((160, 14), (160, 14), (160, 14), (160, 14), (144, 14)),
        *((240, 7), (336, 7), (336, 7)),
    ]
    first = net.get_submodule("block1")
    sizes = [m.kernel_size for m in first.modules() if isinstance(m, nn.Conv2d)]
    assert sizes == [(1, 1), (3, 3)]


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="inception_small requires images"):
        InceptionSmall().build(tasks((64,)), Rng(0))
    with pytest.raises(SettingsError, match=r"inception_small\.dropout"):
        InceptionSmall(dropout=-1.0)
    with pytest.raises(SettingsError, match=r"inception_small\.init"):
        InceptionSmall(init="best")  # type: ignore[arg-type]
