"""How well Kronecker factors describe the top of a layer's Hessian, and how simple its eigenvectors are.

Source: Wu et al. (2020), Dissecting Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.numerics.eigenspaces import dominance, overlap_curve, rank_one_energy, reshaped, right_alignment
from vallis.numerics.kronecker import Factors
from vallis.numerics.kronecker_operators import Kronecker, joint_positions
from vallis.numerics.spectra import Eigenpairs

Floats = NDArray[np.float64]

# An eigenvalue below this share of the largest is rounding: its eigenvector is any.
_NOTHING = 1e-6
# What counts as a large eigenvalue of E[M], relative to the largest (D5 of the paper's assertions).
_LARGE = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class KroneckerFit:
    """The largest eigenpairs of a layer's block beside those of ``E[M] ⊗ E[x x']``, rank by rank.

    Where either has no eigenvalue that is more than rounding there is NaN.

    Attributes:
        values: ``(k,)`` the eigenvalues of the Kronecker product.
        overlaps: ``(k,)`` the overlap of the spaces of the first ones of both.
        rank_one: ``(k,)`` the rank-one energy of the block's own eigenvectors as matrices ``[W b]``.
        alignments: ``(k,)`` the ``|cos|`` between their first right singular vectors and E[x].
        input_ratio: the second eigenvalue of E[x x'] over the first; NaN for a single input.
        num_outputs: how many eigenvalues of E[M] are above 5 % of the largest.
    """

    values: Floats
    overlaps: Floats
    rank_one: Floats
    alignments: Floats
    input_ratio: float
    num_outputs: int


def kronecker_fit(found: Factors, pairs: Eigenpairs) -> KroneckerFit:
    """The factors of a layer against the largest eigenpairs of its block of the Hessian.

    Args:
        found: the factors.
        pairs: of the block of weight and bias, in this order; of the weight where the layer has no bias.
    """
    m, n = len(found.outputs), len(found.inputs)
    inputs = found.joint_inputs if found.bias else found.inputs
    mean = torch.cat([found.mean_input, found.mean_input.new_ones(1)]) if found.bias else found.mean_input
    approximate = Kronecker(found.outputs, inputs).largest(len(pairs))
    vectors = approximate.vectors
    if found.bias:
        vectors = vectors[joint_positions(m, n).to(vectors.device)]
    count = min(_num_told(pairs.values), _num_told(approximate.values))
    overlaps, rank_one, alignments = (np.full(len(pairs), np.nan) for _ in range(3))
    if count:
        own = pairs.vectors[:, :count].to(vectors.device)
        matrices = reshaped(own, (m, n))
        overlaps[:count] = overlap_curve(own, vectors[:, :count])
        rank_one[:count] = rank_one_energy(matrices)
        alignments[:count] = right_alignment(matrices, mean)
    eigenvalues = torch.linalg.eigvalsh(found.outputs)
    return KroneckerFit(
        values=approximate.values,
        overlaps=overlaps,
        rank_one=rank_one,
        alignments=alignments,
        input_ratio=1 / dominance(inputs),
        num_outputs=int((eigenvalues > _LARGE * eigenvalues.max()).sum()),
    )


def _num_told(values: Floats) -> int:
    """How many of the first eigenvalues, falling, are more than rounding."""
    told = (values > _NOTHING * values[0]) & (values > 0)
    return int(told.cumprod().sum())
