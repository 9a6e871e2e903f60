"""Kronecker factors of layers: for ``z = W x + b`` the block of the Gauss-Newton matrix is nearly ``E[M] ⊗ E[x x']``.

``M = G' A G`` is the curvature of an example's loss in the layer's outputs z, with G = df/dz for the scores f and A the
second derivative of the loss in them. It is exact here, not sampled (unless that is asked for): all columns of a root
of A are pulled back. The block is of vec(W) row by row, so that M comes first.

A weight that is used at S positions (tokens, time, patches of a convolution, several calls) has
``M = sum_s M_s`` and ``x x' = mean_s x_s x_s'``: positions are taken for uncorrelated, in the derivatives and with the
inputs (KFAC "expand"). Where only some positions count in the loss (tokens with a target), x is averaged over those,
if the layer has as many positions as there are targets, and over all else.

Source: Wu et al. (2020), Dissecting Hessian, the decoupling conjecture; Martens and Grosse (2015), equation 1;
    Grosse and Martens (2016), theorem 1 (patches).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vallis.core.errors import ModelError, SettingsError
from vallis.core.objective import Objective, Term
from vallis.core.rng import Rng
from vallis.numerics.affine import affine_layers
from vallis.numerics.flows import Affine, Flow
from vallis.numerics.pulled import Draws, pulled_roots
from vallis.numerics.row_weights import RowWeights, row_weights

_BLOCK = 64
_ROWS_BYTES = 2**26


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """The two factors of a layer's curvature.

    Attributes:
        layer: its name.
        names: its parameters, the weight first; the second, if any, is the bias.
        outputs: ``(m, m)`` float64, E[M], summed over positions.
        inputs: ``(n, n)`` float64, E[x x'], averaged over positions, and over the batches that reach the layer.
        mean_input: ``(n,)`` float64, E[x].
        num_positions: S, how often the weight is used for an example, on average.
        num_draws: how many random combinations of columns M was estimated from, for each example; 0 where it is exact.
    """

    layer: str
    names: tuple[str, ...]
    outputs: torch.Tensor
    inputs: torch.Tensor
    mean_input: torch.Tensor
    num_positions: float
    num_draws: int = 0

    @property
    def bias(self) -> bool:
        """Whether it has a bias of its own that is trained: its block is `outputs` alone, as x = 1 there."""
        return len(self.names) > 1

    @property
    def joint_inputs(self) -> torch.Tensor:
        """``(n + 1, n + 1)`` E[x x'] with a constant 1 appended to x, for weight and bias as one matrix ``[W b]``."""
        size = len(self.mean_input)
        joint = torch.ones(size + 1, size + 1, dtype=self.inputs.dtype, device=self.inputs.device)
        joint[:size, :size] = self.inputs
        joint[size, :size] = joint[:size, size] = self.mean_input
        return joint


def factors(
    objective: Objective, layers: Sequence[str] = (), *, max_columns: int | None = None, rng: Rng | None = None
) -> Mapping[str, Factors]:
    """The Kronecker factors of the layers of a network, by name, in one pass over the data.

    A pass costs a gradient for each column of the root of A: ``C - 1`` for cross-entropy over C classes, times the
    number of targets of an example. With more columns than `max_columns`, as in language models, so many combinations
    of them with random signs stand for all, for every example its own: M is then an unbiased estimate.

    Args:
        objective: the loss surface, at its origin.
        layers: by name; all that have factors if empty. See `vallis.numerics.affine.affine_layers` for which have none.
        max_columns: see above; None is exact whatever it takes.
        rng: where the signs come from.

    Raises:
        UnknownPart: there is no layer of this name.
        ModelError: a layer that was named has no factors; or what goes through one cannot be told apart by example in
            some later batch.
        LossError: the loss has no scores, or is not convex in them.
        SettingsError: not even one column is allowed.
    """
    if max_columns is not None and max_columns < 1:
        raise SettingsError(f"at least one column was required, max_columns={max_columns} came: raise it")
    found, refused = affine_layers(objective, layers)
    if layers and refused:
        name, why = next(iter(refused.items()))
        raise ModelError(f"a layer with Kronecker factors was required, {name} has none, because {why}: leave it out")
    sums = {layer.name: _Sums(layer, objective) for layer in found}
    for place, term in enumerate(objective.terms() if found else ()):
        _add(term, found, sums, Draws(max_columns, (rng or Rng()).child("batch", place)))
    return {name: each.factors() for name, each in sums.items()}


def gram(rows: torch.Tensor) -> torch.Tensor:
    """``rows' rows``, ``(m, m)`` for ``(R, m)``: by blocks of which only those on and left of the diagonal are made."""
    width = rows.shape[1]
    if width <= _BLOCK:
        return rows.T @ rows
    found = rows.new_empty(width, width)
    for start in range(0, width, _BLOCK):
        stop = min(start + _BLOCK, width)
        found[start:stop, :stop] = rows[:, start:stop].T @ rows[:, :stop]
        found[:start, start:stop] = found[start:stop, :start].T
    return found


class _Sums:
    """What is added up for a layer."""

    def __init__(self, layer: Affine, objective: Objective) -> None:
        (m, n), self.layer = layer.shape, layer
        like = {"dtype": torch.float64, "device": objective.device}
        self.outputs = torch.zeros(m, m, **like)  # type: ignore[call-overload]
        self.inputs = torch.zeros(n, n, **like)  # type: ignore[call-overload]
        self.mean = torch.zeros(n, **like)  # type: ignore[call-overload]
        self.weight = self.positions = 0.0
        self.num_draws = 0

    def add_inputs(self, calls: Sequence[Flow], weights: RowWeights, share: float) -> None:
        """The batch's part of E[x x'] and E[x]: a mean over examples and positions, with weights that add to share."""
        num_positions = sum(call.inputs.shape[1] for call in calls)
        if not num_positions:
            return
        for call in calls:
            size = call.inputs.shape[1]
            rows, weight = weights.scaled(call.inputs)
            scale = share * size / num_positions / weight
            for part in rows.split(max(1, _ROWS_BYTES // (rows.shape[1] * rows.element_size()))):
                self.inputs.add_(gram(part), alpha=scale)
            self.mean.add_(weights.total(call.inputs), alpha=scale)
        self.weight += share
        self.positions += share * num_positions

    def add_outputs(self, rows: torch.Tensor) -> None:
        """One column's part of E[M], whose weights it carries already."""
        for part in rows.split(max(1, _ROWS_BYTES // (rows.shape[1] * rows.element_size()))):
            self.outputs.add_(gram(part))

    def factors(self) -> Factors:
        """What it comes to."""
        weight = self.weight or 1.0
        return Factors(
            layer=self.layer.name,
            names=self.layer.names,
            outputs=self.outputs,
            inputs=self.inputs / weight,
            mean_input=self.mean / weight,
            num_positions=self.positions / weight,
            num_draws=self.num_draws,
        )


def _add(term: Term, layers: Sequence[Affine], sums: Mapping[str, _Sums], draws: Draws) -> None:
    pulled = pulled_roots(term, layers, draws)
    weights = row_weights(term)
    for name, calls in pulled.flows.items():
        sums[name].add_inputs(calls, weights, term.share)
        sums[name].num_draws = max(sums[name].num_draws, pulled.num_draws)
    gathered: dict[str, list[torch.Tensor]] = {name: [] for name in pulled.flows}
    held = 0
    for column in pulled.columns:
        for name, parts in column.items():
            gathered[name].extend(part.flatten(0, 1) for part in parts)
            held += sum(part.numel() * part.element_size() for part in parts)
        if held > _ROWS_BYTES:
            _flush(gathered, sums)
            held = 0
    _flush(gathered, sums)


def _flush(gathered: dict[str, list[torch.Tensor]], sums: Mapping[str, _Sums]) -> None:
    """Many thin products of rows cost more than one of all rows."""
    for name, parts in gathered.items():
        if parts:
            sums[name].add_outputs(torch.cat(parts))
            parts.clear()
