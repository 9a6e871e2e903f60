"""What the curvature of the loss pulls back to the outputs of layers: ``g = G' r`` for columns r of a root of it.

For a batch with curvature ``A = R R'`` of its share of the loss in the scores, and ``G = df/dz`` for the outputs z of a
layer, ``G' A G = sum g g'`` over the columns r of R: exactly, by a gradient for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vallis.core.functional import differentiating
from vallis.core.objective import Term
from vallis.core.rng import Rng
from vallis.numerics.flows import Affine, Flows, run
from vallis.numerics.loss_roots import Root, root

Column = dict[str, list[torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Pulled:
    """A batch at some layers.

    Attributes:
        returned: what the network returns, a function of what the layers do.
        flows: what went through each.
        columns: column by column, and for each layer, the rows ``G_s' r`` ``(N, S, m)`` of each of its calls; to be
            gone through once. The sum of ``g g'`` over them is the batch's share of M.
        num_draws: of how many random combinations the columns are; 0 if they are those of the root.
    """

    returned: Any
    flows: Flows
    columns: Iterator[Column]
    num_draws: int


@dataclass(frozen=True)
class Draws:
    """How many columns of a root are pulled back one by one; of more, so many random combinations.

    Attributes:
        max_columns: None pulls all.
        rng: of the batch.
    """

    max_columns: int | None
    rng: Rng

    def columns(self, found: Root) -> tuple[int, Iterator[tuple[torch.Tensor, ...]]]:
        """How many are drawn, 0 if none are, and the cotangents."""
        if self.max_columns is None or found.num_columns <= self.max_columns:
            return 0, found.columns()
        return self.max_columns, self._drawn(found, self.max_columns)

    def _drawn(self, found: Root, count: int) -> Iterator[tuple[torch.Tensor, ...]]:
        for place in range(count):
            yield tuple(part / count**0.5 for part in found.draw(self.rng.child("draw", place)))


def pulled_roots(term: Term, layers: Sequence[Affine], draws: Draws | None = None) -> Pulled:
    """What is pulled back to the outputs of the layers for a batch.

    Args:
        term: the batch.
        layers: at whose outputs.
        draws: how many columns at most; None pulls all back.

    Raises:
        NoFlow: what goes through a layer cannot be told apart by example.
        LossError: the loss has no scores, or is not convex in them.
    """
    with differentiating():
        returned, flows = run(term, layers)
        found = root(term, returned)
    num_draws, cotangents = (0, found.columns()) if draws is None else draws.columns(found)
    return Pulled(returned, flows, _pull_all(found.outputs, cotangents, flows), num_draws)


def _pull_all(
    outputs: tuple[torch.Tensor, ...], columns: Iterator[tuple[torch.Tensor, ...]], flows: Flows
) -> Iterator[Column]:
    calls = [call for group in flows.values() for call in group]
    if not calls or not outputs:
        return
    for column in columns:
        found = torch.autograd.grad(
            outputs,
            [call.outputs for call in calls],
            column,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        rows = iter(found)
        yield {name: [call.rows(next(rows)) for call in group] for name, group in flows.items()}
