"""Points of a ReLU network's weight space that are stationary and bad, at any width, written down from the data.

With squared loss and one hidden layer: let B x + b be the affine least-squares fit. Hidden unit j gets the weights
``kappa B_c`` of one output c and a bias K so large that it fires on all data with room to spare; the outputs add the
units of their own up again. The network equals the affine fit, and as long as all units fire every network nearby is
affine in x, so none has a lower loss: a local minimum, however wide the network is. A network none of whose units fires
stands on a plateau instead: its gradient is zero, its loss the variance of the targets.

Source: Sun et al. (2020), section III, on Yun, Sra and Jadbabaie (2019) and Ding, Li and Sun (2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from vallis.core.errors import UsageError
from vallis.core.rng import Rng, must_be_rng


@dataclass(frozen=True, eq=False)
class Written:
    """A network ``Linear, ReLU, Linear`` with weights that are written down.

    Attributes:
        module: the network, in float64 and in eval mode.
        loss: what its mean squared error must be.
        margin: the least value of a hidden unit on any example before the ReLU; negative where none fires.
    """

    module: nn.Sequential
    loss: float
    margin: float


def affine_fit(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """``(d, C)`` and ``(C,)``, the least-squares fit ``y = x B + b``, and its mean squared error.

    Args:
        x: ``(N, d)`` float64.
        y: ``(N, C)`` float64.
    """
    ones = torch.ones(len(x), 1, dtype=x.dtype)
    found = torch.linalg.lstsq(torch.cat([x, ones], 1), y, driver="gelsd").solution
    residual = float((x @ found[:-1] + found[-1] - y).square().mean())
    return found[:-1], found[-1], residual


def affine_minimum(x: torch.Tensor, y: torch.Tensor, width: int, scale: float = 1.0) -> Written:
    """The bad local minimum at this width; see above.

    Args:
        x: ``(N, d)`` float64.
        y: ``(N, C)`` float64.
        width: m, at least C.
        scale: kappa, not zero.

    Raises:
        UsageError: the network is narrower than it has outputs, or the scale is zero.
    """
    outputs = y.shape[1]
    if width < outputs or scale == 0:
        raise UsageError(
            f"a width of at least {outputs}, one unit an output, and a scale that is not 0 were required, "
            f"{width} and {scale} came: change them"
        )
    slopes, offset, residual = affine_fit(x, y)
    owner = torch.arange(width) % outputs
    first = scale * slopes.T[owner]
    reach = float((x @ first.T).abs().max())
    raised = 1.0 + 2.0 * reach
    counts = torch.bincount(owner, minlength=outputs).to(x.dtype)
    second = torch.zeros(outputs, width, dtype=x.dtype)
    second[owner, torch.arange(width)] = 1 / (counts[owner] * scale)
    module = two_layers(first, torch.full((width,), raised, dtype=x.dtype), second, offset - raised * second.sum(1))
    return Written(module, residual, float((x @ first.T + raised).min()))


def dead_plateau(x: torch.Tensor, y: torch.Tensor, width: int, rng: Rng) -> Written:
    """A network none of whose units fires on any example, with the mean of the targets as its answer."""
    must_be_rng(rng)
    first = torch.randn(width, x.shape[1], generator=rng.torch(), dtype=x.dtype)
    lowered = -1.0 - (x @ first.T).amax(0)
    second = torch.randn(y.shape[1], width, generator=rng.child("second").torch(), dtype=x.dtype)
    module = two_layers(first, lowered, second, y.mean(0))
    return Written(module, float((y - y.mean(0)).square().mean()), float((x @ first.T + lowered).min()))


def better_point(x: torch.Tensor, y: torch.Tensor, width: int, rng: Rng) -> Written:
    """Random hidden weights and the outputs that fit best: from N - 1 units on it fits everything."""
    must_be_rng(rng)
    first = torch.randn(width, x.shape[1], generator=rng.torch(), dtype=x.dtype) / x.shape[1] ** 0.5
    # Each unit bends at a random example, so that no two of them are alike on the data.
    at = torch.randint(len(x), (width,), generator=rng.child("bends").torch())
    bias = -(x[at] * first).sum(1) + 1e-3 * torch.randn(width, generator=rng.child("off").torch(), dtype=x.dtype)
    hidden = torch.relu(x @ first.T + bias)
    slopes, offset, residual = affine_fit(hidden, y)
    return Written(two_layers(first, bias, slopes.T, offset), residual, float((x @ first.T + bias).min()))


def two_layers(first: torch.Tensor, bias: torch.Tensor, second: torch.Tensor, offset: torch.Tensor) -> nn.Sequential:
    """``Linear, ReLU, Linear`` with these weights ``(m, d)``, ``(m,)``, ``(C, m)``, ``(C,)``."""
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(first.shape[1], len(first)), nn.ReLU(), nn.Linear(len(first), len(second)))
    module = module.to_empty(device="cpu").to(first.dtype)
    held: Mapping[str, torch.Tensor] = {
        "0.weight": first, "0.bias": bias, "2.weight": second, "2.bias": offset,
    }  # fmt: skip
    module.load_state_dict(dict(held))
    return module.eval()
