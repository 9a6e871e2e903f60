"""One pass forward over the examples of several networks: together where that pays, and read once in any case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from vallis.core import tree
from vallis.core.data import Stream
from vallis.core.objective import Objective, Term
from vallis.core.types import Batch
from vallis.numerics.population import Population, count_once, together, unstacked

# On larger batches a pass alone takes as long as one of several, which has to be proved first. Measured with
# `generalization_gap` on 32 networks, together over one by one: 0.3 to 0.5 on 40 examples, 0.9 to 1.4 on 128.
_MOST_ROWS = 64


def passes(objectives: Sequence[Objective]) -> Iterator[tuple[int, Term, Any]]:
    """For each batch of each objective its place, the batch, and what the network returns, without gradients.

    The batches of one objective come in their order; those of different ones come in any. Examples that several look
    at, as one object, are read once for all.

    Raises:
        DataError: nothing counts in one of them.
    """
    count_once(objectives)
    alone: dict[int, list[int]] = {}
    for places, population in together(objectives, _MOST_ROWS):
        if population is not None:
            yield from _joint(places, population, objectives)
        else:
            alone.setdefault(id(objectives[places[0]].data), []).extend(places)
    for readers in alone.values():
        yield from _one_by_one(readers, objectives)


def _joint(
    places: Sequence[int], population: Population, objectives: Sequence[Objective]
) -> Iterator[tuple[int, Term, Any]]:
    for term in population.terms():
        with torch.no_grad():
            outputs = unstacked(term.outputs(population.origin), len(places))
        for row, place in enumerate(places):
            yield place, Term(float(term.share[row]), term.batches[row], objectives[place]), outputs[row]


def _one_by_one(readers: Sequence[int], objectives: Sequence[Objective]) -> Iterator[tuple[int, Term, Any]]:
    totals = {place: objectives[place].total_weight for place in readers}
    data = objectives[readers[0]].data
    # Alone each would read a stream anew, so that none sees what another writes over its inputs.
    each_has_own = isinstance(data, Stream) and len(readers) > 1
    for batch in data:
        for place in readers:
            objective = objectives[place]
            own = objective.own(_copied(batch) if each_has_own else batch)
            weight = float(objective.loss.weight(own.y))
            if weight > 0:
                term = Term(weight / totals[place], own, objective)
                with torch.no_grad():
                    outputs = term.outputs(objective.origin)
                yield place, term, outputs


def _copied(batch: Batch) -> Batch:
    x, y = tree.map_tensors(torch.clone, (batch.x, batch.y))
    return replace(batch, x=x, y=y)
