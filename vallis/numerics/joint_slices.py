"""The losses of several networks along directions of their own: at each step all networks in one computation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from vallis.core.data import Stream
from vallis.core.objective import Objective, Point
from vallis.core.progress import track
from vallis.numerics.population import Population, together, unstacked
from vallis.numerics.slices import Floats, Moving, Spread, error_of

# Beyond so many parameters, moving them costs more than what is saved around the layers.
_MOST_PARAMETERS = 5_000
# Beyond so many products in a first layer it pays not to make them at every point, as `Landscape` does.
_MOST_PRODUCTS = 2**18
# Measured with `loss_slice` on 32 networks 2-64-64-2, together over one by one: 0.3 on 40 examples, 0.6 on 128.
_MOST_ROWS = 160


class Losses(Protocol):
    """The loss of a network at points along directions: a `Landscape`, or one of several that are computed together."""

    def losses(self, points: Sequence[Sequence[float]], label: str = "points") -> Floats:
        """``(n,)`` the losses at these points ``(n, k)``."""
        ...

    def spread(self, points: Sequence[Sequence[float]], label: str = "points", of: int | None = None) -> Spread:
        """The losses at these points, with error bars over the examples; see `Landscape.spread`."""
        ...


def landscapes(objectives: Sequence[Objective], directions: Callable[[int], Sequence[Point]]) -> dict[int, Losses]:
    """The landscapes of those objectives that go together, by their places, each along its own directions.

    Whoever is asked first makes the others' losses at the same points along with its own.

    Args:
        objectives: the loss surfaces.
        directions: of the objective at a place, for each the same number of them; see `Landscape`. Those of networks
            that are looked at alone are not asked for: of many large ones they would fill the memory.

    Returns:
        Nothing for those that are looked at alone as quickly, or quicker, by a `Landscape`.
    """
    small = [place for place, objective in enumerate(objectives) if _is_small(objective)]
    found: dict[int, Losses] = {}
    for rows, population in together([objectives[place] for place in small], _MOST_ROWS):
        if population is not None:
            places = [small[row] for row in rows]
            joint = _Joint(population, [directions(place) for place in places])
            found |= {place: _Part(joint, number) for number, place in enumerate(places)}
    return found


def _is_small(objective: Objective) -> bool:
    if isinstance(objective.data, Stream) or objective.num_parameters > _MOST_PARAMETERS:
        return False
    return objective.origin[0].numel() * len(objective.data) <= _MOST_PRODUCTS


class _Joint:
    """The losses of K networks, each at the same steps along directions of its own."""

    def __init__(self, population: Population, directions: Sequence[Sequence[Point]]) -> None:
        self.population = population
        ways = [
            [
                torch.stack([part.to(like[0]) for part in parts])
                for parts, like in zip(zip(*way, strict=True), population.origin, strict=True)
            ]
            for way in zip(*directions, strict=True)
        ]
        self._moving = Moving(population.origin, ways[::-1])
        self._asked: Sequence[Sequence[float]] | None = None
        self._found = np.empty((0, 0))
        self._spread_asked: tuple[Sequence[Sequence[float]], int | None] | None = None
        self._spreads: list[Spread] = []

    def losses(self, points: Sequence[Sequence[float]], label: str) -> Floats:
        """``(K, n)``; at the origin those of the networks alone, to the last bit."""
        if self._asked != points:
            found = np.empty((len(self.population), len(points)))
            for place in track(range(len(points)), label, len(points)):
                found[:, place] = self._at(points[place])
            self._asked, self._found = list(points), found
        return self._found

    def _at(self, steps: Sequence[float]) -> Floats:
        if not any(steps):
            return np.array([each.value() for each in self.population.members])
        return np.asarray(self.population.losses(self._moving.to(list(reversed(steps)))))

    def spreads(self, points: Sequence[Sequence[float]], label: str, of: int | None) -> list[Spread]:
        """Of each network."""
        if self._spread_asked != (points, of):
            members = self.population.members
            centre, weights = self._each([0.0] * len(points[0]))
            known = 0.0 if of is None else min(1.0, len(members[0].data) / of)
            found = np.zeros((len(members), 3, len(points)))
            for place in track(range(len(points)), label, len(points)):
                losses, means = self._each(points[place])[0], self._at(points[place])
                for row, (each, start, weight) in enumerate(zip(losses, centre, weights, strict=True)):
                    found[row, :, place] = means[row], error_of(each, weight), error_of(each - start, weight)
            found[:, 1:] *= math.sqrt(1 - known)  # what was chosen is known, and only the rest left to chance
            self._spread_asked = list(points), of
            self._spreads = [Spread(losses=row[0], errors=row[1], rise_errors=row[2]) for row in found]
        return self._spreads

    def _each(self, steps: Sequence[float]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """For each network ``(N,)`` float64 the losses of the examples, and their weights."""
        at, members = self._moving.to(list(reversed(steps))), self.population.members
        parts: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in members]
        with torch.no_grad():
            for term in self.population.terms():
                outputs = unstacked(term.outputs(at), len(members))
                for part, member, said, batch in zip(parts, members, outputs, term.batches, strict=True):
                    part.append(member.loss.per_example(said, batch.y))
        losses, weights = ([torch.cat([pair[k].double() for pair in part]) for part in parts] for k in (0, 1))
        return losses, weights


@dataclass(frozen=True, eq=False)
class _Part:
    """One of the networks."""

    joint: _Joint
    row: int

    def losses(self, points: Sequence[Sequence[float]], label: str = "points") -> Floats:
        return np.asarray(self.joint.losses(points, label)[self.row])

    def spread(self, points: Sequence[Sequence[float]], label: str = "points", of: int | None = None) -> Spread:
        return self.joint.spreads(points, label, of)[self.row]
