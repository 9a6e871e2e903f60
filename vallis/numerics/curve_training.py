"""A Bezier curve between two networks along which the loss is low, found by gradient descent on its bends.

The expected loss ``E_t L(theta(t))`` over t uniform in (0, 1) is descended by one random t a step; the ends stay. L2
decay acts on the point of the curve, not on its bends.

Source: Garipov et al. (2018), Loss surfaces, mode connectivity, and fast ensembling of DNNs, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from vallis.core.errors import SettingsError
from vallis.core.progress import track
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.path_slopes import Slope
from vallis.numerics.paths import Path, bezier


def train_bezier(
    slopes: Callable[[], Slope],
    start: torch.Tensor,
    end: torch.Tensor,
    *,
    rng: Rng,
    num_bends: int = 1,
    num_steps: int = 1000,
    learning_rate: float = 0.01,
    weight_decay: float = 0.0,
) -> Path:
    """The curve after so many steps of Adam whose rate falls to zero on a cosine; its bends start on the straight line.

    Args:
        slopes: gives the loss and gradient at a vector, on new examples at every call.
        start: one end ``(P,)``.
        end: the other.
        rng: chooses t.
        num_bends: control points between the ends: 1 is the quadratic curve.
        num_steps: gradients.
        learning_rate: of Adam, at the first step.
        weight_decay: of the point on the curve.

    Raises:
        SettingsError: there is no bend, no step, or the rate is not positive.
    """
    must_be_rng(rng)
    if num_bends < 1 or num_steps < 0 or not learning_rate > 0:
        raise SettingsError(
            "a bend, no negative number of steps and a learning rate above 0 were required, "
            f"{num_bends}, {num_steps} and {learning_rate} came: change them"
        )
    bends = [start + (end - start) * ((place + 1) / (num_bends + 1)) for place in range(num_bends)]
    path = bezier([start, *bends, end])
    first, second = ([torch.zeros_like(bend) for bend in bends] for _ in range(2))
    moments = torch.rand(num_steps, generator=rng.torch(), dtype=torch.float64).tolist()
    here = torch.empty_like(start)
    for step, t in enumerate(track(moments, "curve", num_steps), start=1):
        _, gradient = slopes()(path.write(t, here))
        if weight_decay:
            gradient = gradient + weight_decay * here
        rate = learning_rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / num_steps))
        _adam(bends, first, second, gradient, path.basis(t)[1:-1], rate, step)
    return path


def _adam(
    bends: Sequence[torch.Tensor],
    first: Sequence[torch.Tensor],
    second: Sequence[torch.Tensor],
    gradient: torch.Tensor,
    shares: Sequence[float],
    rate: float,
    step: int,
) -> None:
    """One step of Adam (betas 0.9 and 0.999) in place; torch's own costs a second of import."""
    for bend, mean, square, share in zip(bends, first, second, shares, strict=True):
        own = gradient * share
        mean.mul_(0.9).add_(own, alpha=0.1)
        square.mul_(0.999).addcmul_(own, own, value=0.001)
        size = (square / (1 - 0.999**step)).sqrt_().add_(1e-8)
        bend.addcdiv_(mean, size, value=-rate / (1 - 0.9**step))
