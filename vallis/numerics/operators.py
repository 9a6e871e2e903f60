"""Linear operators: matrices ``(P, P)`` that are known only by their products with vectors.

They add, scale, multiply, shift and restrict like matrices; `to_scipy` hands one to every solver of SciPy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, final, overload

import torch

from vallis.core.errors import UsageError
from vallis.core.functional import full_precision


class Operator(ABC):
    """A linear map of vectors ``(P,)``, symmetric unless `is_symmetric` says otherwise.

    Args:
        size: P.
        dtype: in which it computes; vectors of another dtype are converted.
        device: where it computes.

    Attributes:
        num_products: how many products with a vector were made so far.
        is_symmetric: whether ``u @ A v == v @ A u`` is promised.
    """

    is_symmetric = True
    # numpy then leaves `array @ A` and `number * A` to this class instead of going through the operator as an object.
    __array_ufunc__ = None

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.size = size
        self.dtype = dtype
        self.device = device
        self.num_products = 0

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, P)``."""
        return (self.size, self.size)

    @abstractmethod
    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        """``(P,)`` the product with a vector that has the right shape, dtype and device."""

    @final
    def matvec(self, vector: torch.Tensor) -> torch.Tensor:
        """``(P,)`` the product with a vector ``(P,)``, in the operator's dtype.

        Raises:
            UsageError: the vector has another shape, or is complex.
        """
        if vector.is_complex():  # of which torch would drop the imaginary part
            raise UsageError(
                "a real vector was required, a complex one came: multiply its real and imaginary part alone"
            )
        if vector.shape != (self.size,):
            raise UsageError(f"a vector of shape ({self.size},) was required, {tuple(vector.shape)} came: flatten it")
        self.num_products += 1
        with full_precision():
            return self._product(vector.detach().to(device=self.device, dtype=self.dtype))

    @overload
    def __matmul__(self, other: Operator) -> Operator: ...
    @overload
    def __matmul__(self, other: torch.Tensor) -> torch.Tensor: ...
    def __matmul__(self, other: Operator | torch.Tensor) -> Operator | torch.Tensor:
        """The product with a vector ``(P,)``, with the K columns of a matrix ``(P, K)``, or with an operator.

        Raises:
            UsageError: the other is none of these, or its shape does not fit.
        """
        if isinstance(other, Operator):
            return Product(*_factors(self), *_factors(other))
        if not isinstance(other, torch.Tensor):
            raise UsageError(
                f"an operator or a tensor was required, a {type(other).__name__} came: "
                "write A @ torch.as_tensor(v), or A.to_scipy() @ v"
            )
        if other.ndim == 1:
            return self.matvec(other)
        if other.ndim != 2 or other.shape[0] != self.size or not other.shape[1]:
            raise UsageError(
                f"a vector of shape ({self.size},) or a matrix of shape ({self.size}, K) was required, "
                f"{tuple(other.shape)} came: transpose or flatten it"
            )
        return torch.stack([self.matvec(column) for column in other.unbind(1)], dim=1)

    def __rmatmul__(self, other: object) -> Operator:
        raise UsageError(
            f"the operator on the left of @ was required, a {type(other).__name__} came there: write A @ v"
        )

    def dense(self) -> torch.Tensor:
        """``(P, P)`` the matrix, by P products."""
        columns = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        for place in range(self.size):
            unit = torch.zeros(self.size, dtype=self.dtype, device=self.device)
            unit[place] = 1
            columns[:, place] = self.matvec(unit)
        return columns

    def to_scipy(self) -> Any:
        """The same operator as a `scipy.sparse.linalg.LinearOperator` on numpy vectors; it must be symmetric.

        Arrays may be of any byte order and strides; of a complex one both parts are multiplied, by a product each.
        """
        import numpy as np
        from scipy.sparse.linalg import LinearOperator

        must_be_symmetric(self)
        numpy_dtype = torch.empty(0, dtype=self.dtype).numpy().dtype

        def product(vector: Any) -> Any:
            if np.iscomplexobj(vector):
                return product(vector.real) + 1j * product(vector.imag)
            own = np.array(vector, dtype=numpy_dtype).reshape(-1)  # a copy: torch takes neither strides nor read-only
            return self.matvec(torch.from_numpy(own)).cpu().numpy()

        return LinearOperator(shape=self.shape, matvec=product, rmatvec=product, dtype=numpy_dtype)

    def __add__(self, other: Operator) -> Operator:
        return Sum(self, _operator(other, "+"))

    def __radd__(self, other: object) -> Operator:
        # What `sum` begins with.
        return self if type(other) is int and other == 0 else Sum(_operator(other, "+"), self)

    def __sub__(self, other: Operator) -> Operator:
        return Sum(self, Scaled(_operator(other, "-"), -1.0))

    def __rsub__(self, other: object) -> Operator:
        return Sum(_operator(other, "-"), Scaled(self, -1.0))

    def __mul__(self, factor: float) -> Operator:
        return Scaled(self, _number(factor, "*"))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Operator:
        number = _number(divisor, "/")
        if number == 0:
            raise UsageError("a divisor other than zero was required, 0 came: choose another")
        return Scaled(self, 1 / number)

    def __neg__(self) -> Operator:
        return Scaled(self, -1.0)


class Dense(Operator):
    """A matrix ``(P, P)`` that is held as it is."""

    def __init__(self, matrix: torch.Tensor) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise UsageError(f"a square matrix was required, one of shape {tuple(matrix.shape)} came: give (P, P)")
        if not matrix.is_floating_point():
            raise UsageError(f"a matrix of real floating numbers was required, {matrix.dtype} came: convert it")
        super().__init__(matrix.shape[0], matrix.dtype, matrix.device)
        self.matrix = matrix.detach()
        # Beside its own scale: of a matrix of tiny numbers no two differ by much.
        scale = float(self.matrix.nan_to_num(0, 0, 0).abs().max()) if matrix.numel() else 0.0
        apart = max(1e-8, 100 * torch.finfo(matrix.dtype).eps) * scale
        self.is_symmetric = bool(torch.allclose(self.matrix, self.matrix.T, atol=apart, equal_nan=True))

    def dense(self) -> torch.Tensor:
        """``(P, P)`` a copy of the matrix, which takes no product."""
        return self.matrix.clone()

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return self.matrix @ vector


class Sum(Operator):
    """``A + B + ...``."""

    def __init__(self, *terms: Operator) -> None:
        super().__init__(*_common(terms))
        self.terms = terms
        self.is_symmetric = all(term.is_symmetric for term in terms)

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        total = self.terms[0].matvec(vector)
        for term in self.terms[1:]:
            total = total + term.matvec(vector)
        return total


class Scaled(Operator):
    """``factor A``."""

    def __init__(self, operator: Operator, factor: float) -> None:
        super().__init__(operator.size, operator.dtype, operator.device)
        self.operator = operator
        self.factor = factor
        self.is_symmetric = operator.is_symmetric

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return self.operator.matvec(vector) * self.factor


class Shifted(Operator):
    """``A + shift I``."""

    def __init__(self, operator: Operator, shift: float) -> None:
        super().__init__(operator.size, operator.dtype, operator.device)
        self.operator = operator
        self.shift = shift
        self.is_symmetric = operator.is_symmetric

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        return torch.add(self.operator.matvec(vector), vector, alpha=self.shift)


class Product(Operator):
    """``A B ...``, the last factor first; promised to be symmetric only if it reads the same from both sides."""

    def __init__(self, *factors: Operator) -> None:
        super().__init__(*_common(factors))
        self.factors = factors
        palindrome = all(one is other for one, other in zip(factors, reversed(factors), strict=True))
        self.is_symmetric = palindrome and all(factor.is_symmetric for factor in factors)

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        for factor in reversed(self.factors):
            vector = factor.matvec(vector)
        return vector


class Restricted(Operator):
    """The block ``A[positions, positions]`` of some coordinates, e.g. those of a layer.

    Args:
        positions: ``(Q,)`` which of the P coordinates, each at most once.

    Raises:
        UsageError: a position is outside of 0..P-1, or comes twice.
    """

    def __init__(self, operator: Operator, positions: torch.Tensor) -> None:
        unique = torch.unique(positions)
        if len(unique) != len(positions) or len(unique) == 0 or unique[0] < 0 or unique[-1] >= operator.size:
            raise UsageError(
                f"positions in 0..{operator.size - 1}, each once, were required, {len(positions)} of which "
                f"{len(unique)} are distinct came: see `curvature.positions`"
            )
        super().__init__(len(positions), operator.dtype, operator.device)
        self.operator = operator
        self.positions = positions.to(operator.device)
        self.is_symmetric = operator.is_symmetric

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(self.operator.size, dtype=self.dtype, device=self.device)
        whole[self.positions] = vector
        return self.operator.matvec(whole)[self.positions]


def must_be_symmetric(operator: Operator) -> None:
    """Lets symmetric operators pass.

    Raises:
        UsageError: it promises no symmetry.
    """
    if not operator.is_symmetric:
        raise UsageError(
            f"a symmetric operator was required, a {type(operator).__name__} without that promise came: "
            "write a product so that it reads the same from both sides"
        )


def _factors(operator: Operator) -> tuple[Operator, ...]:
    """Products are flattened, so that ``A @ B @ A`` is seen to read the same from both sides."""
    return operator.factors if isinstance(operator, Product) else (operator,)


def _operator(other: object, sign: str) -> Operator:
    if not isinstance(other, Operator):
        raise UsageError(
            f"operators on both sides of {sign} were required, a {type(other).__name__} came: "
            "write Shifted(A, shift) for A + shift I, and Dense(matrix) for a matrix"
        )
    return other


def _number(factor: object, sign: str) -> float:
    if isinstance(factor, torch.Tensor) and factor.ndim == 0 and not factor.is_complex():
        factor = factor.item()
    if isinstance(factor, bool) or not isinstance(factor, Real):
        raise UsageError(
            f"a real number beside {sign} was required, a {type(factor).__name__} came: "
            "write A @ B for the product with an operator, a vector or a matrix"
        )
    return float(factor)


def _common(operators: tuple[Operator, ...]) -> tuple[int, torch.dtype, torch.device]:
    """Size, dtype and device that all of them share."""
    kinds = {(operator.size, operator.dtype, operator.device) for operator in operators}
    if len(kinds) != 1:
        came = ", ".join(f"{size} {str(dtype).removeprefix('torch.')} on {device}" for size, dtype, device in kinds)
        raise UsageError(f"operators of one size, dtype and device were required, {came or 'none'} came: match them")
    return kinds.pop()
