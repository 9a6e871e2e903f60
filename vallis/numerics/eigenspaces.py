"""How alike spaces of eigenvectors are, and what eigenvectors of a layer look like as matrices.

The overlap of two spaces of k dimensions with projectors P and Q is ``Tr(P Q) / k``: one for the same space, and k/D on
average for random ones in D dimensions. An eigenvector h of a layer's curvature is a matrix ``Mat(h)`` of the shape of
its weight, of rank one where the curvature is ``E[M] ⊗ E[x x']``.

Source: Wu et al. (2020), Dissecting Hessian.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import UsageError

Floats = NDArray[np.float64]


def trace_overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    """``Tr(P Q) / k`` of the spaces that the columns of two matrices ``(D, k)`` span, in [0, 1].

    Raises:
        UsageError: the shapes differ, or columns are linearly dependent.
    """
    return float(overlap_curve(one, other)[-1])


def overlap_curve(one: torch.Tensor, other: torch.Tensor) -> Floats:
    """``(K,)`` the overlap of the spaces of the first k columns of two matrices ``(D, K)``, for k = 1 to K.

    Raises:
        UsageError: the shapes differ, or columns are linearly dependent.
    """
    if one.ndim != 2 or one.shape != other.shape or not 1 <= one.shape[1] <= one.shape[0]:
        raise UsageError(
            "two matrices of one shape (D, K) with K <= D were required, "
            f"{tuple(one.shape)} and {tuple(other.shape)} came: give eigenvectors as columns"
        )
    # Orthonormal columns whose first k span what the first k of the given ones do.
    squares = (_orthonormal(one).T @ _orthonormal(other).to(one.device)).square()
    counts = np.arange(1.0, one.shape[1] + 1)
    cumulated = squares.cumsum(0).cumsum(1).diagonal().cpu().numpy()
    return np.asarray(cumulated, dtype=np.float64) / counts


def random_overlap(count: int, size: int) -> tuple[float, float]:
    """Mean and standard deviation of the overlap of a fixed and a uniformly random space, of k out of D dimensions.

    ``E = k / D`` and ``Var = 2 (D - k)^2 / (D^2 (D - 1) (D + 2))``, from the fourth moments of a rotation.

    Raises:
        UsageError: k is not in 1..D.
    """
    if not 1 <= count <= size:
        raise UsageError(f"1 <= k <= D was required, k={count}, D={size} came: take fewer dimensions")
    if size == 1:
        return 1.0, 0.0
    return count / size, math.sqrt(2 / ((size - 1) * (size + 2))) * (size - count) / size


def reshaped(vectors: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """``(k, m, n)`` float64, Mat(h) of each of the columns h ``(m n, k)`` of a weight ``(m, n)``.

    Of columns ``(m n + m, k)``, of weight and bias one after the other, ``(k, m, n + 1)`` with the bias as last column.

    Raises:
        UsageError: the vectors have another length.
    """
    m, n = shape
    if vectors.ndim != 2 or vectors.shape[0] not in (m * n, m * n + m):
        raise UsageError(
            f"vectors of {m} times {n} numbers as columns were required, {tuple(vectors.shape)} came: "
            "give eigenvectors of this layer alone"
        )
    rows = vectors.T.double()
    weight = rows[:, : m * n].reshape(-1, m, n)
    return weight if rows.shape[1] == m * n else torch.cat([weight, rows[:, m * n :, None]], 2)


def rank_one_energy(matrices: torch.Tensor) -> Floats:
    """``(k,)`` the share of the largest singular value in the sum of squares of each matrix ``(k, m, n)``.

    One for a matrix of rank one; zero matrices, which have no rank, are NaN.
    """
    squares = torch.linalg.svdvals(matrices.double()).square()
    return _numpy(squares[:, 0] / squares.sum(1))


def input_correspondence(matrices: torch.Tensor, input_vectors: torch.Tensor) -> Floats:
    """``(k, n)`` the share ``|Mat(h_i) v_j|^2`` of each matrix along each of the orthonormal columns v ``(n, n)``.

    Rows of vectors of length one add up to one.
    """
    return _numpy((matrices.double() @ input_vectors.to(matrices.device).double()).square().sum(1))


def output_correspondence(matrices: torch.Tensor, output_vectors: torch.Tensor) -> Floats:
    """``(k, m)`` the share ``|Mat(h_i)' u_j|^2`` of each matrix along each of the orthonormal columns u ``(m, m)``."""
    turned = matrices.double().transpose(1, 2) @ output_vectors.to(matrices.device).double()
    return _numpy(turned.square().sum(1))


def right_alignment(matrices: torch.Tensor, direction: torch.Tensor) -> Floats:
    """``(k,)`` the ``|cos|`` between each matrix's first right singular vector and a direction ``(n,)``, e.g. E[x].

    NaN where the direction is zero.
    """
    _, _, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    unit = direction.to(matrices.device).double()
    return _numpy((right[:, 0] @ (unit / unit.norm())).abs())


def dominance(matrix: torch.Tensor) -> float:
    """How many times as large as its second the first eigenvalue of a semidefinite matrix ``(n, n)`` is.

    Infinite for rank one, NaN for the zero matrix and for a single number.
    """
    if len(matrix) < 2:
        return math.nan
    second, first = (float(value) for value in torch.linalg.eigvalsh(matrix.double())[-2:])
    rounding = len(matrix) * torch.finfo(torch.float64).eps * abs(first)
    if first <= 0:
        return math.nan
    return first / second if second > rounding else math.inf


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor
    found, triangle = torch.linalg.qr(columns.double())
    lengths = columns.double().norm(dim=0)
    if bool((triangle.diagonal().abs() <= 1e-8 * lengths).any()):
        raise UsageError(
            f"linearly independent columns were required, those of a {tuple(columns.shape)} matrix are not: "
            "ask for fewer eigenvectors"
        )
    return found


def _numpy(values: torch.Tensor) -> Floats:
    return np.asarray(values.cpu().numpy(), dtype=np.float64)
