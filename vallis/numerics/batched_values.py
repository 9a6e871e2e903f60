"""Activations of K members in one call, where that has the bits of K calls (see `vallis.numerics.same_bits`)."""

from __future__ import annotations

from functools import cache

import torch

from vallis.numerics.program_kernels import Activation
from vallis.numerics.same_bits import Way


@cache
def values_of(kernel: Activation) -> tuple[Way, ...]:
    """Ways from inputs ``(K, ...)`` to outputs ``(K, ...)``, the first member by member."""

    def each(x: torch.Tensor, out: torch.Tensor) -> None:
        for part, place in zip(x.unbind(), out.unbind(), strict=True):
            place.copy_(kernel.value(part))

    def together(x: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(kernel.value(x))

    return each, together


@cache
def slopes_of(kernel: Activation) -> tuple[Way, ...]:
    """Ways from slopes of the outputs, inputs and outputs ``(K, ...)`` to slopes of the inputs ``(K, ...)``."""

    def each(slope: torch.Tensor, x: torch.Tensor, out: torch.Tensor, found: torch.Tensor) -> None:
        for place, *parts in zip(found.unbind(), slope.unbind(), x.unbind(), out.unbind(), strict=True):
            place.copy_(kernel.slope(*parts))

    def together(slope: torch.Tensor, x: torch.Tensor, out: torch.Tensor, found: torch.Tensor) -> None:
        found.copy_(kernel.slope(slope, x, out))

    return each, together
