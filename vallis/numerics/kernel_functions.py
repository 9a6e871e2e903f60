"""Kernels of pairs of inputs, block by block in float64: the inner product and the Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from vallis.core.errors import DataError, SettingsError
from vallis.core.rng import Rng, must_be_rng

ROWS = 1024
_MOST_FOR_MEDIAN = 2000


class Kernel(Protocol):
    """A positive semidefinite function of two inputs."""

    def block(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """``(N, M)`` of its values on ``(N, d)`` and ``(M, d)``, both float64."""
        ...


@dataclass(frozen=True, kw_only=True)
class Linear:
    """``k(x, x') = <x, x'>``: interpolation with it is the minimum-norm solution of a linear model without bias."""

    def block(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Inner products."""
        return one @ other.T


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """``k(x, x') = exp(-gamma |x - x'|^2)``.

    Attributes:
        gamma: one over twice the squared bandwidth.
    """

    gamma: float

    def __post_init__(self) -> None:
        """Checks the bandwidth.

        Raises:
            SettingsError: gamma is not positive.
        """
        if not 0 < self.gamma < float("inf"):
            raise SettingsError(f"a positive gamma was required, {self.gamma} came: raise it")

    def block(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The exponentials."""
        return squared_distances(one, other).mul_(-self.gamma).exp_()


def squared_distances(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``(N, M)`` of ``|x - x'|^2``, as ``|x|^2 + |x'|^2 - 2 <x, x'>`` and never below 0.

    Args:
        one: ``(N, d)``.
        other: ``(M, d)``.
    """
    # Around their common middle the three terms are no larger than they must be, and less is lost when they cancel.
    middle = other.mean(0)
    one, other = one - middle, other - middle
    squares = torch.addmm(other.square().sum(1)[None], one, other.T, alpha=-2)
    return squares.add_(one.square().sum(1)[:, None]).clamp_(min=0)


def median_gamma(x: torch.Tensor, rng: Rng) -> float:
    """``2 / median |x - x'|^2`` over pairs of different examples: of a random part of more than 2,000.

    Args:
        x: ``(N, ...)``.
        rng: chooses the part.

    Raises:
        DataError: half of the pairs are copies, or there is none.
    """
    must_be_rng(rng)
    some = x[torch.randperm(len(x), generator=rng.child("median").torch())[:_MOST_FOR_MEDIAN]].flatten(1).double()
    above = torch.triu_indices(len(some), len(some), 1)
    apart = squared_distances(some, some)[above[0], above[1]]
    middle = float(apart.median()) if len(apart) else 0.0
    if not middle > 0:
        raise DataError("two different inputs or more were required for a bandwidth, none came: give gamma")
    return 2 / middle
