"""Kronecker factors of layers: for ``z = W x + b`` the block of the Gauss-Newton matrix is nearly ``E[M] ⊗ E[x x']``.

``M = G' A G`` is the curvature of an example's loss in the layer's outputs z, with G = df/dz for the scores f and A the
second derivative of the loss in them. It is exact here, not sampled (unless that is asked for): all columns of a root
of A are pulled back. The block is of vec(W) row by row, so that M comes first.

A weight that is used at S positions (tokens, time, patches of a convolution, several calls) has
``M = sum_s M_s`` and ``x x' = mean_s x_s x_s'``: positions are taken for uncorrelated, in the derivatives and with the
inputs (KFAC "expand"). Where targets do not count alike (ignored tokens, class weights), a row x counts as the target
that it is for (see `vallis.numerics.row_counts`). Where rows reach several targets, as in attention, that is the target
of the same place, if there are as many rows as targets and no gradient speaks against it; else each row counts as its
example.

Source: Wu et al. (2020), Dissecting Hessian, the decoupling conjecture; Martens and Grosse (2015), equation 1;
    Grosse and Martens (2016), theorem 1 (patches).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vallis.core.errors import ModelError, SettingsError
from vallis.core.objective import Objective, Term
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.affine import affine_layers
from vallis.numerics.flows import Affine, Flow, run
from vallis.numerics.pulled import Draws, pulled_roots
from vallis.numerics.row_counts import RowCounts, may_count_apart, row_counts

_BLOCK = 64
_ROWS_BYTES = 2**26

Counts = Mapping[str, RowCounts | str]


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
        layers: by name; all that have factors if empty. See `factored_layers` for which have none.
        max_columns: see above; None is exact whatever it takes.
        rng: where the signs come from.

    Raises:
        UnknownPart: there is no layer of this name.
        ModelError: a layer that was named has no factors; or what goes through one cannot be told apart by example in
            some later batch.
        LossError: the loss has no scores, or is not convex in them.
        SettingsError: not even one column is allowed.
    """
    if rng is not None:
        must_be_rng(rng)
    if max_columns is not None and max_columns < 1:
        raise SettingsError(f"at least one column was required, max_columns={max_columns} came: raise it")
    found, refused, counts = _counted(objective, layers)
    if layers and refused:
        name, why = next(iter(refused.items()))
        raise ModelError(f"a layer with Kronecker factors was required, {name} has none, because {why}: leave it out")
    sums = {layer.name: _Sums(layer, objective) for layer in found}
    for place, term in enumerate(objective.terms() if found else ()):
        _add(term, found, sums, Draws(max_columns, (rng or Rng()).child("batch", place)), counts.get(place))
    return {name: each.factors() for name, each in sums.items()}


def factored_layers(objective: Objective, layers: Sequence[str] = ()) -> tuple[tuple[Affine, ...], Mapping[str, str]]:
    """The layers of a network that have Kronecker factors, in the order of its modules, and why the others have none.

    Those are the affine ones (see `vallis.numerics.affine.affine_layers`) of which it can be told what each row counts.

    Args:
        objective: whose network.
        layers: by name; all that own trainable parameters if empty.

    Returns:
        The layers, and for every other layer by name the reason, as half a sentence.

    Raises:
        UnknownPart: there is no layer of this name.
    """
    found, refused, _ = _counted(objective, layers)
    return found, refused


def _counted(
    objective: Objective, layers: Sequence[str]
) -> tuple[tuple[Affine, ...], Mapping[str, str], Mapping[int, Counts]]:
    """What `factored_layers` says, and what rows count in the batches in which targets do not count alike."""
    found, refused = affine_layers(objective, layers)
    counts: dict[int, Counts] = {}
    uncounted: dict[str, str] = {}
    for place, term in enumerate(objective.terms() if found else ()):
        if may_count_apart(term):
            told = row_counts(term, *run(term, found))
            uncounted |= {name: why for name, why in told.items() if isinstance(why, str)}
            counts[place] = told
    good = tuple(layer for layer in found if layer.name not in uncounted)
    return good, {**refused, **uncounted}, counts


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
        self.weight = self.counted = self.positions = 0.0
        self.num_draws = 0

    def add_inputs(self, calls: Sequence[Flow], counts: RowCounts, share: float) -> None:
        """The batch's part of E[x x'] and E[x]: a mean over rows, as they count."""
        for place, call in enumerate(calls):
            rows = counts.scaled(place, call.inputs)
            for part in rows.split(max(1, _ROWS_BYTES // (rows.shape[1] * rows.element_size()))):
                self.inputs.add_(gram(part), alpha=share)
            self.mean.add_(counts.mean(place, call.inputs), alpha=share)
        self.counted += share * counts.counted
        self.weight += share
        self.positions += share * sum(call.inputs.shape[1] for call in calls)

    def add_outputs(self, rows: torch.Tensor) -> None:
        """One column's part of E[M], whose weights it carries already."""
        for part in rows.split(max(1, _ROWS_BYTES // (rows.shape[1] * rows.element_size()))):
            self.outputs.add_(gram(part))

    def factors(self) -> Factors:
        """What it comes to."""
        weight, counted = self.weight or 1.0, self.counted or 1.0
        return Factors(
            layer=self.layer.name,
            names=self.layer.names,
            outputs=self.outputs,
            inputs=self.inputs / counted,
            mean_input=self.mean / counted,
            num_positions=self.positions / weight,
            num_draws=self.num_draws,
        )


def _add(term: Term, layers: Sequence[Affine], sums: Mapping[str, _Sums], draws: Draws, counts: Counts | None) -> None:
    pulled = pulled_roots(term, layers, draws)
    told = row_counts(term, pulled.returned, pulled.flows) if counts is None else counts
    for name in pulled.flows:
        count = told.get(name)
        if isinstance(count, RowCounts):
            sums[name].add_inputs(pulled.flows[name], count, term.share)
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
