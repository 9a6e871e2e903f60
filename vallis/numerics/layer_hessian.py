"""The Hessian of one layer's weight from the second derivatives in the layer's outputs: m gradients make all of it.

Where every example passes a layer ``z = W x + b`` once, the block of W is ``sum_i K_i ⊗ x_i x_i'`` with ``K_i`` the
``(m, m)`` second derivatives of the loss in the outputs z of example i, whatever the network does with them. The
examples do not mix, so that one gradient gives a row of every K. Products and the matrix itself then run no network.
"""

from __future__ import annotations

import torch

from vallis.core.functional import differentiating
from vallis.core.objective import Objective, Term
from vallis.numerics.curvature import Hessian
from vallis.numerics.derivatives import pull
from vallis.numerics.flows import Affine, NoFlow, run
from vallis.numerics.memory import spare_bytes
from vallis.numerics.operators import Operator

_SHARE_OF_SPARE = 4
_CHUNK_BYTES = 2**26


class LayerHessian(Operator):
    """``sum_i K_i ⊗ x_i x_i'``, of vec(W) row by row.

    Args:
        curvatures: ``(N, m, m)`` K, each symmetric, with what its example has in the mean loss.
        inputs: ``(N, n)`` x.
    """

    def __init__(self, curvatures: torch.Tensor, inputs: torch.Tensor) -> None:
        super().__init__(curvatures.shape[1] * inputs.shape[1], inputs.dtype, inputs.device)
        self._curvatures, self._inputs = curvatures, inputs

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        forward = self._inputs @ vector.view(self._curvatures.shape[1], -1).T
        back = torch.bmm(self._curvatures, forward[:, :, None])[:, :, 0]
        return (back.T @ self._inputs).reshape(-1)

    def dense(self) -> torch.Tensor:
        """``(P, P)`` the matrix, of whose symmetric halves each entry is summed up once."""
        m, n = self._curvatures.shape[1], self._inputs.shape[1]
        (i, j), (a, b) = (torch.triu_indices(size, size, device=self.device) for size in (m, n))
        pairs = torch.zeros(len(i), len(a), dtype=self.dtype, device=self.device)
        rows = max(1, _CHUNK_BYTES // ((len(i) + len(a)) * self.dtype.itemsize))
        for bent, x in zip(self._curvatures.split(rows), self._inputs.split(rows), strict=True):
            pairs += bent[:, i, j].T @ (x[:, a] * x[:, b])
        whole = torch.empty(m, n, m, n, dtype=self.dtype, device=self.device)
        for one, other in ((i, j), (j, i)):
            whole[one[:, None], a, other[:, None], b] = pairs
            whole[one[:, None], b, other[:, None], a] = pairs
        return whole.view(self.shape)


def weight_hessian(objective: Objective, layer: Affine, budget: int | None = None) -> Operator:
    """The Hessian's block of a layer's weight, ``(m n, m n)``: a `LayerHessian`, or where that is none a `Hessian`.

    That it is one is proved by a product with each of both, which must be equal to rounding.

    Args:
        objective: the loss surface, at its origin.
        layer: from `vallis.numerics.affine.affine_layers`.
        budget: bytes that all K may take; None takes a quarter of what is free.
    """
    hessian = Hessian(objective, only=(layer.weight,))
    m, n = layer.shape
    needed = len(objective.data) * (m * m + n) * objective.dtype.itemsize
    # With more outputs than that a product with all K costs more than one with the network.
    if m > 2 * n or needed > (
        spare_bytes(torch.device(objective.device)) // _SHARE_OF_SPARE if budget is None else budget
    ):
        return hessian
    parts = []
    for term in objective.terms():
        part = _of_batch(term, layer)
        if part is None:
            return hessian
        parts.append(part)
    made = LayerHessian(*(torch.cat(held) for held in zip(*parts, strict=True)))
    if not _agree(made, hessian):
        return hessian
    hessian.clear()
    return made


def _of_batch(term: Term, layer: Affine) -> tuple[torch.Tensor, torch.Tensor] | None:
    """K and x of a batch, none where the layer is at rest; None where an example passes it more than once."""
    try:
        returned, flows = run(term, (layer,))
    except NoFlow:
        return None
    calls, (m, n) = flows[layer.name], layer.shape
    like = {"dtype": term.objective.dtype, "device": term.objective.device}
    if not calls:
        return torch.zeros(0, m, m, **like), torch.zeros(0, n, **like)  # type: ignore[call-overload]
    if len(calls) > 1 or calls[0].inputs.shape[1] != 1:
        return None
    outputs = calls[0].outputs
    with differentiating():
        loss = term.loss_of_outputs(returned) * term.share
        slopes = torch.zeros_like(outputs)
        if loss.requires_grad:
            (slopes,) = pull((loss,), (outputs,), (torch.ones_like(loss),), differentiable=True)
        rows = calls[0].rows(slopes)[:, 0]
        bent = torch.zeros(len(rows), m, m, **like)  # type: ignore[call-overload]
        for place in range(m if rows.requires_grad else 0):
            slope = rows[:, place].sum()
            (found,) = pull((slope,), (outputs,), (torch.ones_like(slope),))
            bent[:, place] = calls[0].rows(found)[:, 0]
    return (bent + bent.transpose(1, 2)) / 2, calls[0].inputs[:, 0]


def _agree(made: Operator, hessian: Hessian) -> bool:
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(made.size, generator=generator, dtype=torch.float64).to(made.device, made.dtype)
    one, other = (operator.matvec(vector).double() for operator in (made, hessian))
    rounding = float(torch.finfo(made.dtype).eps ** (2 / 3))
    return float((one - other).norm()) <= rounding * float(other.norm())
