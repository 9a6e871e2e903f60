"""Patches times the flattened weight are the convolution, whatever its settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.numerics.solutions import built, random
from vallis.numerics.patches import patches, positions, why_not

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "one_by_one": {"kernel_size": 1},
    "stride": {"kernel_size": 3, "stride": 2},
    "padding": {"kernel_size": 3, "padding": 1},
    "same": {"kernel_size": 4, "padding": "same"},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "dilation": {"kernel_size": 2, "dilation": 2},
    "circular": {"kernel_size": 3, "padding": 2, "padding_mode": "circular"},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "replicate": {"kernel_size": 3, "padding": 1, "stride": 2, "dilation": 2, "padding_mode": "replicate"},
    "no_bias": {"kernel_size": 3, "bias": False},
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_patches_make_the_convolution(kind: type[nn.Conv1d] | type[nn.Conv2d], name: str) -> None:
    module = built(lambda: kind(2, 5, **SETTINGS[name])).double()
    assert isinstance(module, (nn.Conv1d, nn.Conv2d))
    assert why_not(module) is None
    x = random(3, 2, 7, 6).double() if kind is nn.Conv2d else random(3, 2, 7).double()
    bias = 0 if module.bias is None else module.bias
    made = patches(module, x) @ module.weight.flatten(1).T + bias
    torch.testing.assert_close(made, positions(module(x)), rtol=1e-12, atol=1e-12)


def test_a_kernel_that_is_not_square() -> None:
    module = built(lambda: nn.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=(1, 0), dilation=(2, 1))).double()
    assert isinstance(module, nn.Conv2d)
    x = random(2, 2, 5, 6).double()
    assert module.bias is not None
    made = patches(module, x) @ module.weight.flatten(1).T + module.bias
    torch.testing.assert_close(made, positions(module(x)), rtol=1e-12, atol=1e-12)


def test_groups_are_refused() -> None:
    assert "4 groups" in str(why_not(nn.Conv2d(4, 4, 3, groups=4)))
