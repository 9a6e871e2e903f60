from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vallis.numerics.batched_losses import NLL_MEANS
from vallis.numerics.same_bits import agree


@pytest.mark.parametrize("size", [1, 2, 3, 15, 16, 17, 31, 32, 33, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_way_is_the_mean_loss(size: int, dtype: torch.dtype) -> None:
    chances = torch.log_softmax(torch.randn(4, size, 7, dtype=dtype), 2)
    targets = torch.randint(7, (4, size))
    expected = torch.stack([F.nll_loss(own, y) for own, y in zip(chances, targets, strict=True)])
    picked = chances.gather(2, targets.unsqueeze(2)).squeeze(2)
    for way in NLL_MEANS:
        found = torch.zeros(4, dtype=dtype)
        way(picked, found)
        torch.testing.assert_close(found, expected)
    assert torch.equal(_found(NLL_MEANS[0], picked), expected)


def _found(way: object, picked: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(len(picked), dtype=picked.dtype)
    way(picked, out)  # type: ignore[operator]
    return out


@pytest.mark.parametrize("size", [1, 3, 16, 17, 48])
def test_torch_still_sums_in_the_order_that_is_known(size: int) -> None:
    """Where it no longer does, nothing becomes wrong, but the batched way is never taken."""
    layouts = tuple(
        (torch.Size(shape), stride, torch.float32, torch.device("cpu"), 0)
        for shape, stride in (((8, size), (size, 1)), ((8,), (1,)))
    )
    assert agree(*NLL_MEANS, layouts)
