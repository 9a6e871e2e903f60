"""Kronecker products as operators, with their eigenpairs in closed form; plain, and with corrected eigenvalues.

``A ⊗ B`` acts on vec(W), W ``(m, n)`` row by row, as ``A W B'``. Its eigenpairs are ``(a_i b_j, u_i ⊗ v_j)``. The
corrected operator has the same eigenvectors and any eigenvalues.

Source: Wu et al. (2020), Dissecting Hessian.
"""

from __future__ import annotations

import heapq
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.errors import UsageError
from vallis.numerics.kronecker import Factors
from vallis.numerics.operators import Operator, Restricted
from vallis.numerics.spectra import Eigenpairs


class KroneckerBasis:
    """Eigenvectors ``u_i ⊗ v_j`` of a Kronecker product of two symmetric matrices, never written out.

    Attributes:
        output_values: ``(m,)`` falling eigenvalues a of the first matrix.
        output_vectors: ``(m, m)`` with columns u.
        input_values: ``(n,)`` falling eigenvalues b of the second.
        input_vectors: ``(n, n)`` with columns v.
    """

    def __init__(self, outputs: torch.Tensor, inputs: torch.Tensor) -> None:
        self.output_values, self.output_vectors = _falling(outputs)
        self.input_values, self.input_vectors = _falling(inputs)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return len(self.output_values), len(self.input_values)

    def to(self, vector: torch.Tensor) -> torch.Tensor:
        """``(m, n)`` the coordinates of a vector ``(m n,)`` in the basis."""
        return self.output_vectors.T @ vector.view(self.shape) @ self.input_vectors

    def back(self, coordinates: torch.Tensor) -> torch.Tensor:
        """``(m n,)`` the vector with these coordinates ``(m, n)``."""
        return (self.output_vectors @ coordinates @ self.input_vectors.T).reshape(-1)

    def vector(self, i: int, j: int) -> torch.Tensor:
        """``(m n,)`` the eigenvector ``u_i ⊗ v_j``."""
        return torch.outer(self.output_vectors[:, i], self.input_vectors[:, j]).reshape(-1)


class _Diagonal(Operator):
    """An operator that is diagonal in a Kronecker basis."""

    def __init__(self, basis: KroneckerBasis) -> None:
        like = basis.output_vectors
        super().__init__(basis.shape[0] * basis.shape[1], like.dtype, like.device)
        self.basis = basis

    @property
    @abstractmethod
    def eigenvalues(self) -> torch.Tensor:
        """``(m, n)`` the eigenvalue of each ``u_i ⊗ v_j``."""

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return self.basis.back(self.eigenvalues * self.basis.to(vector))

    def apply(self, function: Callable[[torch.Tensor], torch.Tensor], vector: torch.Tensor) -> torch.Tensor:
        """``(P,)`` f(A) times a vector, for a function of eigenvalues like ``lambda a: 1 / (a + 0.1)``."""
        given = vector.detach().to(device=self.device, dtype=self.dtype)
        return self.basis.back(function(self.eigenvalues) * self.basis.to(given))

    def trace(self) -> float:
        """The sum of all eigenvalues."""
        return float(self.eigenvalues.sum())

    @abstractmethod
    def _places(self, count: int) -> list[tuple[int, int]]:
        """Which ``u_i ⊗ v_j`` have the largest eigenvalues, falling."""

    def largest(self, count: int) -> Eigenpairs:
        """The largest eigenvalues with their vectors; all of them if there are fewer.

        Raises:
            UsageError: not even one is asked for.
        """
        if count < 1:
            raise UsageError(f"at least one eigenvalue was required, count={count} came: raise it")
        places = self._places(min(count, self.size))
        values = torch.stack([self.eigenvalues[i, j] for i, j in places])
        vectors = torch.stack([self.basis.vector(i, j) for i, j in places], 1)
        residuals = (self @ vectors - vectors * values).norm(dim=0)
        return Eigenpairs(
            values=values.double().cpu().numpy(),
            vectors=vectors.double(),
            residuals=residuals.double().cpu().numpy(),
            converged=np.ones(len(places), dtype=bool),
        )


class Kronecker(_Diagonal):
    """``A ⊗ B`` of two symmetric matrices ``(m, m)`` and ``(n, n)``: a product costs ``m n (m + n)``."""

    def __init__(self, outputs: torch.Tensor, inputs: torch.Tensor) -> None:
        _must_be_symmetric(outputs, inputs)
        self._basis: KroneckerBasis | None = None
        Operator.__init__(self, len(outputs) * len(inputs), outputs.dtype, outputs.device)
        self.outputs, self.inputs = outputs, inputs

    @property
    def basis(self) -> KroneckerBasis:  # type: ignore[override]
        """Its eigenvectors, found when they are first asked for."""
        if self._basis is None:
            self._basis = KroneckerBasis(self.outputs, self.inputs)
        return self._basis

    @property
    def eigenvalues(self) -> torch.Tensor:
        """``(m, n)`` the products of the eigenvalues of the factors."""
        return torch.outer(self.basis.output_values, self.basis.input_values)

    def trace(self) -> float:
        """The product of the traces of the factors."""
        return float(self.outputs.trace() * self.inputs.trace())

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return (self.outputs @ vector.view(len(self.outputs), -1) @ self.inputs).reshape(-1)

    def _places(self, count: int) -> list[tuple[int, int]]:
        a, b = self.basis.output_values, self.basis.input_values
        return [(i, j) for i, j, _ in largest_products(a.cpu().numpy(), b.cpu().numpy(), count)]


class Corrected(_Diagonal):
    """The operator with a Kronecker basis, and any eigenvalues ``(m, n)`` in it."""

    def __init__(self, basis: KroneckerBasis, eigenvalues: torch.Tensor) -> None:
        if eigenvalues.shape != basis.shape:
            raise UsageError(
                f"eigenvalues of shape {basis.shape} were required, {tuple(eigenvalues.shape)} came: one a basis vector"
            )
        super().__init__(basis)
        self._eigenvalues = eigenvalues

    @property
    def eigenvalues(self) -> torch.Tensor:
        """``(m, n)`` as they were given."""
        return self._eigenvalues

    def _places(self, count: int) -> list[tuple[int, int]]:
        order = torch.topk(self._eigenvalues.reshape(-1), count).indices.tolist()
        return [divmod(place, self.basis.shape[1]) for place in order]


def largest_products(a: NDArray[np.floating], b: NDArray[np.floating], count: int) -> list[tuple[int, int, float]]:
    """The places i, j and values of the `count` largest products ``a_i b_j`` of two falling lists, falling.

    Negative numbers, which rounding leaves, count as zero.
    """
    a, b = np.maximum(a, 0.0), np.maximum(b, 0.0)
    heap = [(-float(a[0] * b[0]), 0, 0)]
    found: list[tuple[int, int, float]] = []
    while heap and len(found) < count:
        value, i, j = heapq.heappop(heap)
        found.append((i, j, -value))
        if j + 1 < len(b):
            heapq.heappush(heap, (-float(a[i] * b[j + 1]), i, j + 1))
        if j == 0 and i + 1 < len(a):  # each pair is reached along its row only, so it comes once
            heapq.heappush(heap, (-float(a[i + 1] * b[0]), i + 1, 0))
    return found


def kronecker_block(found: Factors) -> Operator:
    """The Kronecker approximation of a layer's block in the order of its parameters: vec(W) row by row, then b."""
    if not found.bias:
        return Kronecker(found.outputs, found.inputs)
    order = joint_positions(len(found.outputs), len(found.inputs))
    return Restricted(Kronecker(found.outputs, found.joint_inputs), order)


def joint_positions(num_outputs: int, num_inputs: int) -> torch.Tensor:
    """``(m (n + 1),)`` where in vec([W b]) the entries of vec(W), and then of b, stand."""
    places = torch.arange(num_outputs * (num_inputs + 1)).view(num_outputs, num_inputs + 1)
    return torch.cat([places[:, :-1].reshape(-1), places[:, -1]])


def _falling(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.flip(0), vectors.flip(1).contiguous()


def _must_be_symmetric(*matrices: torch.Tensor) -> None:
    for matrix in matrices:
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
        if not square or not torch.allclose(
            matrix, matrix.T, rtol=1e-5, atol=1e-8 * float(matrix.abs().max()), equal_nan=True
        ):
            raise UsageError(
                f"symmetric factors were required, one of shape {tuple(matrix.shape)} that is not came: give (m, m)"
            )
