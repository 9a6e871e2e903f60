"""How much each row that a layer multiplies counts: as the example that it is of, or as the one target that it is for.

Where targets count differently (tokens of which some are ignored, class weights), a row counts as its target. Which one
that is no shape tells: a network may turn time around, or hand some tokens to one layer and the others to another. So
it is found out. Targets are numbered in binary; for each digit the scores of all targets that have a 0 there are pulled
back, and then those that have a 1. A row that reaches one target alone answers to one of the two each time, and so says
its number; a row that reaches several, as in attention, at least cannot be that of a target which it never reaches.

Nor is it believed that a user's function judges each target by the scores of its place: one that shifts or turns time
itself shows by its slopes which scores count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vallis.core import tree
from vallis.core.errors import LossError
from vallis.core.functional import differentiating
from vallis.core.objective import Term
from vallis.core.own_loss import OwnLoss
from vallis.numerics.derivatives import pull
from vallis.numerics.flows import Flow, Flows
from vallis.numerics.row_weights import inner, row_weights

_NO_TELLING = "nothing tells which of its rows is that of which target, and not all targets count alike"
_NO_SCORES = "nothing tells which scores are those of which target, and not all targets count alike"


@dataclass(frozen=True, eq=False)
class RowCounts:
    """What the rows of a layer count in a batch.

    Attributes:
        weights: ``(N, S)`` of each call; None where all rows count alike.
        total: what they add up to where no example, or target, is without a row; rows that nothing counts are left out.
    """

    weights: tuple[torch.Tensor | None, ...]
    total: float

    def scaled(self, call: int, inputs: torch.Tensor) -> torch.Tensor:
        """``(N S, n)`` rows of a call whose products add up to the weighted sum of ``x x'`` over the total."""
        weights, rows = self.weights[call], inputs.flatten(0, 1)
        if weights is None:
            return rows / math.sqrt(self.total)
        return rows * (weights.to(rows) / self.total).sqrt().reshape(-1, 1)

    def mean(self, call: int, inputs: torch.Tensor) -> torch.Tensor:
        """``(n,)`` the weighted sum of the rows of a call over the total."""
        weights, rows = self.weights[call], inputs.flatten(0, 1)
        mean: torch.Tensor = (rows.sum(0) if weights is None else weights.to(rows).reshape(-1) @ rows) / self.total
        return mean

    @property
    def counted(self) -> float:
        """The part of the total that the rows have: one, but for a layer that sees some of the targets only."""
        if any(weights is None for weights in self.weights):
            return 1.0
        return sum(float(weights.sum()) for weights in self.weights if weights is not None) / self.total


def row_counts(term: Term, returned: Any, flows: Flows) -> Mapping[str, RowCounts | str]:
    """What the rows of each layer count in a batch, or why that cannot be told, as half a sentence.

    Args:
        term: the batch.
        returned: what the network returned, in the graph that is to be pulled back through.
        flows: what went through the layers, from `vallis.numerics.flows.run`.
    """
    weights, called = row_weights(term), {name: calls for name, calls in flows.items() if calls}
    targets, slopes = weights.targets, _judged(term, returned)
    if slopes is not None and targets is None:
        targets = _spread(slopes, weights.examples)
    elif slopes is not None and targets is not None and not torch.equal(slopes, targets.to(slopes.device) > 0):
        return dict.fromkeys(called, _NO_SCORES)
    if targets is None:
        return {name: _by_example(calls, weights.examples) for name, calls in called.items()}
    groups = _groups(term, returned, targets.shape[1])
    if groups is None:
        return dict.fromkeys(called, _NO_SCORES)
    flat = [call for calls in called.values() for call in calls]
    reached = dict(zip(flat, _reached(groups, flat), strict=True))
    return {
        name: _by_target(calls, [reached[call] for call in calls], targets, weights.examples)
        for name, calls in called.items()
    }


def may_count_apart(term: Term) -> bool:
    """Whether the targets of an example may count differently."""
    return row_weights(term).targets is not None or _has_a_way_of_its_own(term)


def _has_a_way_of_its_own(term: Term) -> bool:
    y = term.batch.y
    is_classes = isinstance(y, torch.Tensor) and y.ndim > 1 and not y.is_floating_point()
    return is_classes and isinstance(inner(term.objective.loss), OwnLoss)


def _judged(term: Term, returned: Any) -> torch.Tensor | None:
    """``(N, T)`` whether the scores at a place have any say in a loss of the user's; None where that cannot be told.

    It is asked at random scores: where a network is sure of a target, slopes vanish for another reason.
    """
    if not _has_a_way_of_its_own(term):
        return None
    with differentiating():
        scores = term.objective.loss.scores(returned)
        if scores is None or not any(leaf is scores for leaf in tree.tensors(returned)):
            return None
        shape = _places_shape(scores, term.batch.y, term.objective.loss.kind == "categorical")
        if shape is None:
            return None
        free = _random(scores).sigmoid().requires_grad_()
        try:
            loss = term.loss_of_outputs(tree.map_tensors(lambda leaf: free if leaf is scores else leaf, returned))
        except LossError:  # random scores are none that it takes
            return None
        (slopes,) = pull((loss,), (free,), (torch.ones_like(loss),))
    classes = [axis for axis in range(1, scores.ndim) if shape[axis] == 1 != scores.shape[axis]]
    return (slopes != 0).any(classes[0]).flatten(1) if classes else (slopes != 0).flatten(1)


def _spread(judged: torch.Tensor, examples: torch.Tensor | None) -> torch.Tensor | None:
    """``(N, T)`` the weights of examples, each shared by its places that are judged; None where all are."""
    counts = judged.sum(1)
    weights = counts.new_ones(len(counts), dtype=torch.float64) if examples is None else examples.to(counts.device)
    if bool(judged.all()) or bool(((counts == 0) & (weights > 0)).any()):
        return None
    return judged * (weights / counts.clamp(min=1))[:, None]


def _by_example(calls: Sequence[Flow], examples: torch.Tensor | None) -> RowCounts:
    num_positions = sum(call.inputs.shape[1] for call in calls)
    if examples is None:
        return RowCounts((None,) * len(calls), float(len(calls[0].inputs) * num_positions))
    spread = tuple(examples[:, None].expand(call.inputs.shape[:2]) for call in calls)
    return RowCounts(spread, float(examples.sum()) * num_positions)


def _by_target(
    calls: Sequence[Flow], reached: Sequence[torch.Tensor], targets: torch.Tensor, examples: torch.Tensor | None
) -> RowCounts | str:
    """From the groups of targets ``(B, 2, N, S)`` that the rows of each call reach, and the weights ``(N, T)``."""
    sizes, num_targets = [call.inputs.shape[1] for call in calls], targets.shape[1]
    hits = torch.cat(list(reached), 3)
    live, in_order = hits.any(0).any(0), sum(sizes) == num_targets or set(sizes) == {num_targets}
    places = torch.arange(sum(sizes), device=hits.device) % num_targets
    index: torch.Tensor | None
    if in_order and bool((_among(hits, places) | ~live).all()):
        index = places.expand_as(live)
    elif not bool(hits.all(1).any()):
        index = _alone(hits, live, num_targets)
    elif in_order:  # some row reaches several targets, and some row not that of its place
        index = None
    else:
        return _by_example(calls, examples)
    if index is None:
        return _NO_TELLING
    counted = targets.to(hits.device).gather(1, index.clamp(min=0)) * (index >= 0)
    return RowCounts(counted.split(sizes, 1), float(targets.sum()) * max(1, sum(sizes) // num_targets))


def _among(hits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """``(N, S)`` whether each row may reach the target of this number: no group that holds it goes without the row."""
    digits = (places >> torch.arange(len(hits), device=places.device)[:, None]) & 1
    return torch.where(digits[:, None].bool(), hits[:, 1], hits[:, 0]).all(0)


def _alone(hits: torch.Tensor, live: torch.Tensor, num_targets: int) -> torch.Tensor | None:
    """``(N, S)`` the one target that each row reaches; None if that cannot be told of a row.

    A row that reaches none, as where all units are off, is for the target that this position has in all other examples.
    It is for none, which is said by -1, where every target has its row without it, as before scores that are cut off.
    """
    powers = 2 ** torch.arange(len(hits), device=hits.device)
    index = (hits[:, 1] * powers[:, None, None]).sum(0)
    found = torch.zeros(len(index), num_targets, dtype=torch.int64, device=index.device)
    if bool((found.scatter_add_(1, index.clamp(max=num_targets - 1), live.long()) == 1).all()):
        return torch.where(live, index, -1)
    lowest = torch.where(live, index, torch.iinfo(torch.int64).max).amin(0)
    highest = torch.where(live, index, -1).amax(0)
    if bool((~live & (lowest != highest)).any()):
        return None
    return torch.where(live, index, lowest)


def _groups(term: Term, returned: Any, num_targets: int) -> tuple[torch.Tensor, list[torch.Tensor]] | None:
    """The scores, and for each digit the cotangents of those with a 0 and of those with a 1; None without scores."""
    with differentiating():
        scores = term.objective.loss.scores(returned)
    if scores is None:
        return None
    shape = _places_shape(scores, term.batch.y, term.objective.loss.kind == "categorical")
    if shape is None:
        return None
    drawn = _random(scores)
    numbers, found = torch.arange(num_targets, device=scores.device), []
    for digit in range((num_targets - 1).bit_length()):
        for value in (0, 1):
            found.append(drawn * (((numbers >> digit) & 1) == value).view(shape))
    return scores, found


def _random(like: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _places_shape(scores: torch.Tensor, y: torch.Tensor, classes_second: bool) -> tuple[int, ...] | None:
    """How numbers of the targets ``(T,)`` are laid beside the scores; None where there is not one way to."""
    rest = tuple(y.shape[1:])
    second, last = scores.shape[2:] == rest, scores.ndim == y.ndim + 1 and scores.shape[1:-1] == rest
    if second and (classes_second or not last):
        return (1, 1, *rest)
    if last and not second:
        return (1, *rest, 1)
    return (1, *rest) if scores.shape == y.shape else None


def _reached(groups: tuple[torch.Tensor, list[torch.Tensor]], calls: Sequence[Flow]) -> list[torch.Tensor]:
    """``(B, 2, N, S)`` for each call, whether a row reaches some target of a group."""
    scores, cotangents = groups
    found: list[list[torch.Tensor]] = [[] for _ in calls]
    for cotangent in cotangents:
        slopes: Sequence[torch.Tensor] = [torch.zeros_like(call.outputs) for call in calls]
        if scores.requires_grad:
            slopes = torch.autograd.grad(
                scores,
                [call.outputs for call in calls],
                cotangent,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        for hits, call, slope in zip(found, calls, slopes, strict=True):
            sizes = call.rows(slope).abs().amax(2)
            hits.append(sizes > 100 * torch.finfo(sizes.dtype).eps * sizes.max())
    return [torch.stack(hits).unflatten(0, (-1, 2)) for hits in found]
