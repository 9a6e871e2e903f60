"""Kronecker approximations with the right eigenvalues: what the true curvature has along each ``u_i ⊗ v_j``.

Source: George et al. (2018), Fast approximate natural gradient descent in a Kronecker-factored eigenbasis, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from vallis.core.objective import Objective, Term
from vallis.numerics.affine import affine_layers
from vallis.numerics.flows import Affine, Flow
from vallis.numerics.kronecker import Factors
from vallis.numerics.kronecker_operators import Corrected, KroneckerBasis
from vallis.numerics.pulled import pulled_roots

_SQUARES_BYTES = 2**26


def corrected(objective: Objective, found: Mapping[str, Factors]) -> Mapping[str, Corrected]:
    """For each of these layers the operator whose eigenvalues are the true ones along the basis of its factors.

    The eigenvalue of ``u_i ⊗ v_j`` is ``E[(u_i' (d f / d W)' r v_j)^2]``, summed over the columns r of a root of A:
    what the exact block of the Gauss-Newton matrix has on its diagonal in this basis. Of all operators with these
    eigenvectors it is the nearest to that block in the Frobenius norm. It takes one more pass over the data.

    Args:
        objective: the one the factors are of.
        found: from `vallis.numerics.kronecker.factors`.

    Raises:
        ModelError: what goes through a layer cannot be told apart by example.
        LossError: the loss has no scores, or is not convex in them.
    """
    layers, _ = affine_layers(objective, tuple(found))
    bases = {name: KroneckerBasis(each.outputs, each.inputs) for name, each in found.items()}
    own = {name: _cast(basis, objective.dtype) for name, basis in bases.items()}
    values = {
        name: torch.zeros(basis.shape, dtype=torch.float64, device=objective.device) for name, basis in bases.items()
    }
    for term in objective.terms() if found else ():
        for name, part in _squares(term, layers, own):
            values[name] += part
    return {name: Corrected(bases[name], values[name]) for name in found}


def _squares(
    term: Term, layers: Sequence[Affine], bases: Mapping[str, KroneckerBasis]
) -> Iterator[tuple[str, torch.Tensor]]:
    found = pulled_roots(term, layers)
    flows = found.flows
    turned = {name: [call.inputs @ bases[name].input_vectors for call in calls] for name, calls in flows.items()}
    squared = {name: parts[0][:, 0] ** 2 for name, parts in turned.items() if _is_single(flows[name])}
    outputs: dict[str, torch.Tensor] = {}
    for column in found.columns:
        for name, rows in column.items():
            if not rows:
                continue
            sides = [part @ bases[name].output_vectors for part in rows]
            if name in squared:
                outputs[name] = outputs.get(name, 0.0) + sides[0][:, 0] ** 2
            else:
                yield name, _sum_of_squares(sides, turned[name])
    for name, total in outputs.items():
        yield name, total.T @ squared[name]


def _sum_of_squares(sides: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """``(m, n)`` the sum over examples of the squares of ``sum_s side_s input_s'``."""
    num_examples, _, m = sides[0].shape
    n = inputs[0].shape[2]
    chunk = max(1, _SQUARES_BYTES // (m * n * sides[0].element_size()))
    total = torch.zeros(m, n, dtype=torch.float64, device=sides[0].device)
    for start in range(0, num_examples, chunk):
        here = slice(start, start + chunk)
        products = torch.bmm(sides[0][here].transpose(1, 2), inputs[0][here])
        for side, x in zip(sides[1:], inputs[1:], strict=True):
            products.baddbmm_(side[here].transpose(1, 2), x[here])
        total += products.square_().sum(0)
    return total


def _is_single(calls: Sequence[Flow]) -> bool:
    return len(calls) == 1 and calls[0].inputs.shape[1] == 1


def _cast(basis: KroneckerBasis, dtype: torch.dtype) -> KroneckerBasis:
    copied = KroneckerBasis.__new__(KroneckerBasis)
    for name, value in vars(basis).items():
        setattr(copied, name, value.to(dtype))
    return copied
