"""The function of least norm through all examples: one solve with the Gram matrix of a kernel.

Among all functions ``f`` of a kernel's space with ``f(x_i) = y_i`` the one of least norm is ``f(x) = sum_i alpha_i k(x,
x_i)`` with ``K alpha = y`` and ``|f|^2 = alpha' K alpha = y' K^-1 y``. Gradient descent from 0 finds the same one. With
an l2 penalty it is ``(K + p I) alpha = y``, which minimises ``sum_i (f(x_i) - y_i)^2 + p |f|^2``: kernel ridge
regression, which passes through nothing.

Source: Zhang et al. (2017), section 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from vallis.core.errors import DataError, SettingsError, UsageError
from vallis.numerics.condition import condition_number
from vallis.numerics.duplicates import distinct
from vallis.numerics.gram_on_disk import GramOnDisk, panel_width, room_on_disk
from vallis.numerics.kernel_functions import ROWS, Kernel
from vallis.numerics.memory import spare_bytes

Matrix = NDArray[np.float64]
# Shares of the mean of the diagonal that are added to it in turn, where rounding has left K without a Cholesky factor.
JITTERS = (0.0, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8)


@dataclass(frozen=True, kw_only=True, eq=False)
class Interpolant:
    """A function through all of its examples.

    Attributes:
        kernel: k.
        centres: ``(M, d)`` the different inputs, float64.
        coefficients: alpha ``(M, C)``.
        norms: ``(C,)`` the norm of each output, ``sqrt(alpha' K alpha)``, with the jitter in K.
        residual: the largest ``|f(x_i) - y_i|``, penalty, jitter and rounding included.
        jitter: what was added to the diagonal of K; 0 where nothing had to be.
        condition: an estimate of the condition number of what was solved in the 1-norm, never above it: LAPACK's
            (pocon), or what the column of the inverse with the smallest pivot says, where that is more.
        num_copies: how many examples were left out because they are copies of others, with the same targets.
        on_disk: whether the Gram matrix did not fit into the memory.
        penalty: p, the l2 penalty; 0 of a function through its examples.
    """

    kernel: Kernel
    centres: torch.Tensor
    coefficients: torch.Tensor
    norms: torch.Tensor
    residual: float
    jitter: float
    condition: float
    num_copies: int
    on_disk: bool = False
    penalty: float = 0.0

    @property
    def norm(self) -> float:
        """The norm of all outputs together, ``sqrt(trace Y' K^-1 Y)``."""
        return float(self.norms.norm())

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C)`` the values at ``(N, ...)``, a block of rows at a time.

        Raises:
            DataError: the inputs have another size than those it was fitted to.
        """
        size = self.centres.shape[1]
        if x.ndim < 2 or x[:1].numel() != min(1, len(x)) * size:
            raise DataError(
                f"inputs (N, ...) of {size} numbers each were required, {tuple(x.shape)} came: give them as they were "
                "fitted"
            )
        rows = x.reshape(-1, size).split(ROWS)
        return torch.cat([self.kernel.block(some.double(), self.centres) @ self.coefficients for some in rows])


def interpolate(kernel: Kernel, x: torch.Tensor, y: torch.Tensor, *, penalty: float = 0.0) -> Interpolant:
    """The function of least norm through the examples, or past them where it is penalised.

    Copies of an input with one target count once, which changes nothing; under a penalty each counts. The Gram matrix,
    8 N^2 bytes, is held once and is factorised in place; where the free memory has no room for it, its factor goes to
    disk, 4 N^2 bytes, in the folder for temporary files (see `vallis.numerics.gram_on_disk`). The last digits of both
    ways differ.

    Args:
        kernel: k.
        x: ``(N, ...)`` inputs.
        y: ``(N, C)`` targets.
        penalty: the l2 penalty p, in units of the mean of K's diagonal.

    Raises:
        DataError: the shapes do not fit, numbers or values of the kernel are not finite, or copies have different
            targets and there is no penalty.
        SettingsError: the penalty is negative or not finite.
        OutputError: neither the memory nor the disk has room for the Gram matrix.
        UsageError: K has no Cholesky factor even with the largest of `JITTERS` on its diagonal.
    """
    if not 0 <= penalty < math.inf:
        raise SettingsError(f"a penalty of 0 or more was required, {penalty} came: give such as 0.01")
    points, targets, num_copies = _checked(x, y, penalty > 0)
    if 8 * len(points) ** 2 > spare_bytes(points.device):
        return _interpolate_on_disk(kernel, points, targets, num_copies, penalty)
    gram = _rows(kernel, points, points).T  # K is its own transpose: a view in LAPACK's order
    diagonal = gram.diagonal().copy()
    added = penalty * float(diagonal.mean())
    jitter = _factorise(gram, diagonal + added)
    halfway, _ = lapack.dtrtrs(gram, targets.numpy(), lower=1)
    alpha, _ = lapack.dtrtrs(gram, halfway, lower=1, trans=1)
    product = _times(gram, diagonal, alpha)
    residual = product - targets.numpy()
    _must_be_finite(float(np.abs(residual).max()))
    reciprocal = _reciprocal_condition(gram, diagonal + (added + jitter))
    coefficients = torch.from_numpy(np.ascontiguousarray(alpha))
    return Interpolant(
        kernel=kernel,
        centres=points,
        coefficients=coefficients,
        norms=_norms(torch.from_numpy(halfway), coefficients, torch.from_numpy(product), added),
        residual=float(np.abs(residual).max()),
        jitter=jitter,
        condition=condition_number(reciprocal),
        num_copies=num_copies,
        penalty=added,
    )


def interpolate_from(kernel: Kernel, centres: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Interpolant:
    """A function through the examples that is not of least norm: a sum of kernels around centres of other places.

    Args:
        kernel: k.
        centres: ``(N, ...)``, one for each example.
        x: ``(N, ...)`` inputs.
        y: ``(N, C)`` targets.

    Raises:
        DataError: the shapes do not fit, numbers are not finite, or the free memory does not hold two Gram matrices.
        UsageError: the kernels around these centres are linearly dependent on the examples.
    """
    points, targets, _ = _checked(x, y)
    around = centres.reshape(len(centres), -1).double()
    if around.shape != points.shape:
        raise DataError(
            f"a centre for each of {len(points)} different examples was required, {tuple(around.shape)} came: "
            f"give {tuple(points.shape)}"
        )
    needed, spare = 16 * len(points) ** 2, spare_bytes(points.device)
    if needed > spare:
        raise DataError(
            f"{needed / 2**30:.1f} GiB of free memory were required for the kernels of {len(points):,} examples around "
            f"other centres, there are {spare / 2**30:.1f}: take fewer examples"
        )
    cross = _rows(kernel, points, around)
    factor, pivots, singular = lapack.dgetrf(cross)
    if singular:
        raise UsageError("centres that tell the examples apart were required, dependent ones came: draw others")
    alpha, _ = lapack.dgetrs(factor, pivots, targets.numpy())
    reciprocal, _ = lapack.dgecon(factor, float(np.abs(cross).sum(0).max()))
    between = _rows(kernel, around, around)
    return Interpolant(
        kernel=kernel,
        centres=around,
        coefficients=torch.from_numpy(np.ascontiguousarray(alpha)),
        norms=torch.from_numpy((alpha * (between @ alpha)).sum(0)).clamp(min=0).sqrt(),
        residual=float(np.abs(cross @ alpha - targets.numpy()).max()),
        jitter=0.0,
        condition=condition_number(reciprocal),
        num_copies=0,
    )


def _checked(x: torch.Tensor, y: torch.Tensor, keep: bool = False) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The examples in float64, without their copies unless these are to be kept, and how many copies were left out."""
    if len(x) == 0 or y.ndim != 2 or len(x) != len(y) or y.shape[1] == 0:
        raise DataError(
            f"N >= 1 inputs with targets (N, C) were required, {tuple(x.shape)} and {tuple(y.shape)} came: give a row "
            "of targets for each input"
        )
    points, targets = x.detach().cpu().reshape(len(x), -1).double(), y.detach().cpu().double()
    if not (bool(points.isfinite().all()) and bool(targets.isfinite().all())):
        raise DataError("finite inputs and targets were required, NaN or infinity came: mend them")
    kept = torch.arange(len(points)) if keep else distinct(points, targets)
    if len(kept) < len(points):
        return points[kept], targets[kept], len(points) - len(kept)
    return points, targets, 0


def _norms(halfway: torch.Tensor, alpha: torch.Tensor, product: torch.Tensor, penalty: float) -> torch.Tensor:
    """``(C,)`` of ``sqrt(alpha' K alpha)``, out of ``K alpha``; without a penalty ``|L^-1 y|``, with the jitter."""
    if not penalty:
        return torch.from_numpy(np.linalg.norm(halfway.numpy(), axis=0))
    return (alpha * product).sum(0).clamp(min=0).sqrt()


def _interpolate_on_disk(
    kernel: Kernel, points: torch.Tensor, targets: torch.Tensor, num_copies: int, penalty: float
) -> Interpolant:
    width = panel_width(len(points), spare_bytes(points.device))
    with room_on_disk(len(points), width) as file:
        gram = GramOnDisk(kernel, points, file, width)
        mean = float(gram.diagonal().mean())
        added = penalty * mean
        jitter = next((share * mean for share in JITTERS if gram.factorise(added + share * mean)), None)
        if jitter is None:
            raise _no_factor()
        halfway = gram.forward(targets)
        alpha = gram.backward(halfway)
        product, norm = gram.times(alpha)
        reciprocal = gram.reciprocal_condition(norm + added + jitter)
    residual = float((product - targets).abs().max())
    _must_be_finite(residual)
    return Interpolant(
        kernel=kernel,
        centres=points,
        coefficients=alpha,
        norms=_norms(halfway, alpha, product, added),
        residual=residual,
        jitter=jitter,
        condition=condition_number(reciprocal),
        num_copies=num_copies,
        on_disk=True,
        penalty=added,
    )


def _rows(kernel: Kernel, one: torch.Tensor, other: torch.Tensor) -> Matrix:
    values = np.empty((len(one), len(other)))
    for first in range(0, len(one), ROWS):
        values[first : first + ROWS] = kernel.block(one[first : first + ROWS], other).numpy()
    return values


def _factorise(gram: Matrix, diagonal: Matrix) -> float:
    """Puts the Cholesky factor into the lower triangle, in place, and returns the jitter that it took.

    Raises:
        UsageError: none is enough.
    """
    places = np.diag_indices(len(gram))
    for share in JITTERS:
        jitter = share * float(diagonal.mean())
        gram[places] = diagonal + jitter
        _, failed = lapack.dpotrf(gram, lower=1, clean=0, overwrite_a=1)  # in place: it is in LAPACK's order
        if not failed:
            return jitter
        # The upper triangle was left as it was: the lower one is its mirror.
        for first in range(0, len(gram), ROWS):
            last = min(first + ROWS, len(gram))
            gram[last:, first:last] = gram[first:last, last:].T
            block = np.triu(gram[first:last, first:last], 1)
            gram[first:last, first:last] = block + block.T
    raise _no_factor()


def _must_be_finite(residual: float) -> None:
    if not math.isfinite(residual):
        raise DataError("finite values of the kernel were required, the inputs are too large for them: scale them")


def _no_factor() -> UsageError:
    return UsageError(
        f"a Gram matrix of full rank was required, with {JITTERS[-1]:g} of its mean diagonal added it still has no "
        "Cholesky factor: take a smaller bandwidth, other features, or fewer examples"
    )


def _times(gram: Matrix, diagonal: Matrix, alpha: Matrix) -> Matrix:
    """``K alpha`` from the upper triangle, which the factor has left, and the diagonal as it was."""
    place: Matrix = np.einsum("ii->i", gram)  # a view that can be written
    factor = place.copy()
    place[:] = diagonal
    product: Matrix = blas.dsymm(1.0, gram, alpha, lower=0)
    place[:] = factor
    return product


def _reciprocal_condition(gram: Matrix, diagonal: Matrix) -> float:
    """One over the condition number, from the factor below the diagonal and K above it."""
    sums = np.abs(diagonal)
    for first in range(0, len(gram), ROWS):
        above = np.abs(np.triu(gram[first : first + ROWS], first + 1))
        sums = sums + above.sum(0)
        sums[first : first + ROWS] += above.sum(1)
    norm = float(sums.max())
    reciprocal, _ = lapack.dpocon(gram, norm, uplo="L")
    return min(float(reciprocal), 1 / (norm * _weakest_column(gram)))


def _weakest_column(gram: Matrix) -> float:
    """The sum of absolute values of the column of ``K^-1`` that has the smallest pivot: its 1-norm is no less.

    LAPACK's estimate begins with the mean of all columns, in which those of two near copies cancel.
    """
    unit = np.zeros((len(gram), 1))
    unit[int(gram.diagonal().argmin())] = 1
    halfway, _ = lapack.dtrtrs(gram, unit, lower=1)
    column, _ = lapack.dtrtrs(gram, halfway, lower=1, trans=1)
    return float(np.abs(column).sum())
