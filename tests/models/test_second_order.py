from __future__ import annotations

import pytest
import torch

from tests.models.expect import a_good_net, num_parameters, tasks
from vallis.core.errors import ModelError, SettingsError
from vallis.core.rng import Rng
from vallis.models.second_order import Products, SecondOrder


def test_the_features_of_the_paper() -> None:
    """CIFAR-10: 3,072 pixels and 295,296 products, 298,369 weights a class with the bias (Huang et al., section 2)."""
    products = Products(2)(torch.rand(1, 3, 32, 32))
    assert products.shape == (1, 298_368)


def test_its_size_and_that_it_is_linear_in_its_features() -> None:
    net = a_good_net(SecondOrder(), (1, 4, 4))
    assert num_parameters(net) == 10 * (16 + 16 * 17 // 2 + 1)
    net = SecondOrder(pooling=2).build(tasks((1, 4, 4)), Rng(0))
    x = next(iter(tasks((1, 4, 4))[0].splits["train"])).x
    small = x[:, 0].reshape(len(x), 2, 2, 2, 2).mean((2, 4)).flatten(1)
    pairs = [small[:, i] * small[:, j] for i in range(4) for j in range(i, 4)]
    features = torch.cat([x.flatten(1), torch.stack(pairs, 1)], 1)
    torch.testing.assert_close(net.module(x), net.module.get_submodule("1")(features))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 5x5 pixels"):
        SecondOrder(pooling=5).build(tasks((1, 4, 4)), Rng(0))
    with pytest.raises(SettingsError, match=r"second_order\.pooling"):
        SecondOrder(pooling=0)
