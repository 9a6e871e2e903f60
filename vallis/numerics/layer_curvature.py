"""The exact curvature of one layer, ``E[M ⊗ x x']``, from what flows through it: no network is run for a product.

For each example the columns ``g = G' r`` of a root of M and the inputs x are stored once. A product with V ``(m, n)``
is then ``sum g_s (sum_s' g_s' · V x_s') x_s'``: products of matrices. It is the layer's block of the Gauss-Newton
matrix for any network, and of the Hessian where the network is piecewise linear.

Source: Wu et al. (2020), Dissecting Hessian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from vallis.core.errors import ModelError
from vallis.core.objective import Objective, Term
from vallis.numerics.affine import affine_layers
from vallis.numerics.flows import Affine
from vallis.numerics.layer_hessian import LayerHessian
from vallis.numerics.memory import spare_bytes
from vallis.numerics.operators import Operator
from vallis.numerics.pulled import pulled_roots

Part = Literal["layer", "weight", "bias"]
_SHARE_OF_SPARE = 4


@dataclass(frozen=True, eq=False)
class Rows:
    """A batch at a layer, for N examples at S positions with J columns of the root.

    Attributes:
        inputs: ``(N S, n)``.
        pulled: ``(N, J, S m)``, with the batch's share in them.
    """

    inputs: torch.Tensor
    pulled: torch.Tensor

    @property
    def num_bytes(self) -> int:
        """What it takes."""
        return sum(held.numel() * held.element_size() for held in (self.inputs, self.pulled))


class LayerGaussNewton(Operator):
    """The block of the Gauss-Newton matrix of one layer, in the order of its parameters: vec(W) row by row, then b.

    Args:
        objective: the loss surface, at its origin.
        layer: the name of an affine layer (see `vallis.numerics.affine`).
        part: the whole layer, its weight or its bias alone.
        budget: bytes that may be held; what does not fit is made anew at every product. None takes a quarter of what
            is free.

    Raises:
        UnknownPart: there is no such layer.
        ModelError: it is not affine, or has no bias of its own where that is asked for; or (at the first product) what
            goes through it cannot be told apart by example in some later batch.
        LossError: (at the first product) the loss has no scores, or is not convex in them.
    """

    def __init__(self, objective: Objective, layer: str, part: Part = "layer", budget: int | None = None) -> None:
        found, refused = affine_layers(objective, (layer,))
        if refused:
            raise ModelError(f"an affine layer was required, {layer} is none, because {refused[layer]}: take another")
        self.layer: Affine = found[0]
        if part == "bias" and self.layer.bias is None:
            raise ModelError(f'a layer with a bias of its own was required, {layer} has none: use part="weight"')
        m, n = self.layer.shape
        self.weighted, self.biased = part != "bias", part != "weight" and self.layer.bias is not None
        super().__init__(m * n * self.weighted + m * self.biased, objective.dtype, torch.device(objective.device))
        self._objective, self._budget = objective, budget
        self._kept: dict[int, Rows] = {}
        self._num_batches: int | None = None

    @property
    def num_kept(self) -> int:
        """How many batches are held in memory."""
        return len(self._kept)

    def dense(self) -> torch.Tensor:
        """``(P, P)`` the matrix: at once, where every example has one row and the weight stands alone."""
        if not self.weighted or self.biased:
            return super().dense()
        total = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        for rows in self._batches():
            if len(rows.inputs) != len(rows.pulled):
                return super().dense()
            total += LayerHessian(torch.bmm(rows.pulled.transpose(1, 2), rows.pulled), rows.inputs).dense()
        return total

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        m, n = self.layer.shape
        weight = vector[: m * n].view(m, n) if self.weighted else None
        bias = vector[len(vector) - m :] if self.biased else None
        total = torch.zeros_like(vector)
        for rows in self._batches():
            num_examples, num_columns, width = rows.pulled.shape
            forward = vector.new_zeros(num_examples * width // m, m)
            if weight is not None:
                forward = rows.inputs @ weight.T
            if bias is not None:
                forward = forward + bias
            sums = torch.bmm(rows.pulled, forward.view(num_examples, width, 1))
            back = torch.bmm(sums.view(num_examples, 1, num_columns), rows.pulled).view(-1, m)
            if weight is not None:
                total[: m * n] += (back.T @ rows.inputs).reshape(-1)
            if bias is not None:
                total[len(vector) - m :] += back.sum(0)
        return total

    def _batches(self) -> Iterator[Rows]:
        if self._num_batches is not None and self._num_batches == len(self._kept):
            yield from self._kept.values()
            return
        first, count = self._num_batches is None, 0
        left = self._left() if first else 0
        for place, term in enumerate(self._objective.terms()):
            count += 1
            rows = self._kept.get(place)
            if rows is None:
                rows = self._rows(term)
                if first and rows.num_bytes <= left:
                    left -= rows.num_bytes
                    self._kept[place] = rows
            yield rows
        self._num_batches = count

    def _left(self) -> int:
        return self._budget if self._budget is not None else spare_bytes(self.device) // _SHARE_OF_SPARE

    def _rows(self, term: Term) -> Rows:
        m, n = self.layer.shape
        found = pulled_roots(term, (self.layer,))
        calls = found.flows[self.layer.name]
        num_examples = len(term.batch)
        pulled = [torch.cat(parts[self.layer.name], 1).reshape(num_examples, -1) for parts in found.columns]
        if not pulled:
            return Rows(
                torch.zeros(0, n, dtype=self.dtype, device=self.device),
                torch.zeros(0, 0, m).to(self.device, self.dtype),
            )
        inputs = torch.cat([call.inputs for call in calls], 1).reshape(-1, n)
        return Rows(inputs, torch.stack(pulled, 1))
