"""Eigenpairs with the proof that they are some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import UsageError
from vallis.core.types import Note

Floats = NDArray[np.float64]
Stop = Literal["dense", "converged", "max_products", "rounding"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Eigenpairs:
    """Some eigenvalues with their vectors, the most extreme first.

    Attributes:
        values: ``(k,)`` float64.
        vectors: ``(P, k)`` float64, of length one.
        residuals: ``(k,)`` float64, ``|A v - value v|``: there is an eigenvalue within this of the value.
        converged: ``(k,)`` bool, whether residual and value are within the tolerance. It proves that an eigenvalue lies
            within the residual of the value, not that it is the one of this rank: an eigenvector that start and search
            hardly touch can be missed, and then a pair stands for the next one. How often that is so is measured in
            docs/curvature.md.
    """

    values: Floats
    vectors: torch.Tensor
    residuals: Floats
    converged: np.ndarray[Any, np.dtype[np.bool_]]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """Both ends of a spectrum.

    Attributes:
        largest: falling.
        smallest: rising.
        scale: the largest magnitude of an eigenvalue that was seen; the tolerance is relative to it.
        num_products: how many products with the operator it took.
        stop: why it stopped. "dense" and "converged" are good ends; "max_products" (also where the pairs are good and
            fewer than 5 products were left to look for others, see `eigenpairs`) and "rounding" (the operator's dtype
            resolves no smaller residuals) are not.
        notes: what else there is to say.
    """

    largest: Eigenpairs
    smallest: Eigenpairs
    scale: float
    num_products: int
    stop: Stop
    notes: tuple[Note, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether every pair that was asked for is there and within the tolerance."""
        return self.stop in ("dense", "converged")


def upper(rising: Eigenpairs, count: int) -> Eigenpairs:
    """The last `count` of rising pairs, falling."""
    return _taken(rising, np.arange(len(rising))[::-1][:count])


def lower(rising: Eigenpairs, count: int) -> Eigenpairs:
    """The first `count` of rising pairs."""
    return _taken(rising, np.arange(len(rising))[:count])


def must_be_finite(size: float) -> None:
    """Lets products of finite size pass.

    Raises:
        UsageError: it is NaN or infinite.
    """
    if not np.isfinite(size):
        raise UsageError(
            "finite products were required, one with NaN or infinities came: the second derivatives overflow or are "
            "not defined here, so look at the loss and at the weights, and compute in float64 where float32 is too "
            "small"
        )


def explained_by_rounding(difference: float, scale: float, dtype: torch.dtype) -> bool:
    """Whether a difference between u'Av and v'Au is no more than rounding leaves where A v has the length `scale`."""
    return bool(difference <= 100 * torch.finfo(dtype).eps ** 0.5 * scale)


def must_have_been_symmetric(difference: float, scale: float, dtype: torch.dtype) -> None:
    """Lets a difference pass that rounding explains.

    Args:
        difference: the largest seen between u'Av and v'Au, for u and v of length 1.
        scale: the largest length of a product with a vector of length 1.
        dtype: in which the products were computed.

    Raises:
        UsageError: the operator is not symmetric.
    """
    if not explained_by_rounding(difference, scale, dtype):
        raise UsageError(
            f"a symmetric operator was required, u @ A v and v @ A u differ by {difference:.2g} where A v has "
            f"length {scale:.2g}: some layer's second derivative is wrong, so look at the unusual ones"
        )


def _taken(pairs: Eigenpairs, places: NDArray[np.int64]) -> Eigenpairs:
    return Eigenpairs(
        values=pairs.values[places],
        vectors=pairs.vectors[:, torch.from_numpy(places.copy()).to(pairs.vectors.device)],
        residuals=pairs.residuals[places],
        converged=pairs.converged[places],
    )
