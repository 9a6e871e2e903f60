"""The ways from one network to another: straight, straight after its units were matched, a trained curve, a band.

What all of them share: both ends in one weight space, over one data set, with batch normalisation anew at every point
or its statistics in between.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from vallis.core.errors import ModelError
from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Solution
from vallis.numerics.batch_statistics import BatchStatistics, at_own_statistics, normalises_batches, statistics_of
from vallis.numerics.curve_training import train_bezier
from vallis.numerics.elastic_band import Band, Cycle, auto_neb
from vallis.numerics.path_profile import Looker, Profile
from vallis.numerics.path_slopes import RandomSlopes
from vallis.numerics.paths import Path
from vallis.numerics.permutation_tracing import find_permutations
from vallis.numerics.permutations import PermutationSpec, permuted
from vallis.numerics.weight_matching import match_units


@dataclass(frozen=True, eq=False)
class Ends:
    """Two networks of one architecture.

    Attributes:
        start: the loss surface around the first.
        end: the loss surface around the second, over the same data.
        statistics: computes batch statistics anew; None keeps those of the ends, and what is between them.
        learned: the loss surface on which ways are trained, where losses are looked at on a part alone: a way that was
            trained on few examples fits these and no others.
        in_place: the weights with two axes or more none of whose units could be matched.
    """

    start: Objective
    end: Objective
    statistics: BatchStatistics | None = None
    learned: Objective | None = None
    in_place: tuple[str, ...] = ()

    @staticmethod
    def of(
        start: Objective,
        end: Objective,
        *,
        anew: bool = True,
        max_examples: int = 1024,
        learned: Objective | None = None,
        rng: Rng,
    ) -> Ends:
        """The ends, with batch statistics anew where there are such."""
        must_be_rng(rng)
        statistics = BatchStatistics(start, max_examples, rng) if anew and normalises_batches(start) else None
        return Ends(start, end, statistics, learned)

    @property
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Both as vectors ``(P,)``."""
        return self.start.vector(self.start.origin), self.start.vector(self.end.origin).to(self.start.dtype)

    def differing(self) -> tuple[str, ...]:
        """The frozen parameters and other constants that are not the same at both ends."""
        kept = statistics_of(self.start.module)
        held = ((name, value, self.end.buffers[name]) for name, value in self.start.buffers.items() if name not in kept)
        return tuple(name for name, one, other in held if not torch.equal(one, other.to(one)))

    def moved(self, tensors: Mapping[str, torch.Tensor]) -> Ends:
        """The same start, and an end with these parameters and buffers."""
        other = copy.copy(self.end)
        other.origin = tuple(tensors[name] for name in self.end.names)
        other.buffers = {name: tensors[name] for name in self.end.buffers}
        return Ends(self.start, other, self.statistics, self.learned)

    def loss(self, vector: torch.Tensor) -> float:
        """The loss at a vector; the buffers are those of the start unless they are computed anew."""
        point = self.start.point(vector)
        if self.statistics is None:
            return self.start.value(point)
        return at_own_statistics(self.start, dict(self.statistics.at(point))).value(point)

    def profiles(
        self, path: Path, others: tuple[Objective, ...], num_points: int, tolerance: float
    ) -> tuple[Profile, ...]:
        """What is seen along a path, on the examples of the start and on others."""
        return Looker((self.start, *others), path, self.end, self.statistics).profiles(num_points, tolerance)

    def slopes(self, batch_size: int | None, rng: Rng) -> RandomSlopes:
        """Gradients on random examples."""
        return RandomSlopes(
            self.learned or self.start, batch_size, rng, normalised_by_batch=self.statistics is not None
        )


def must_match(one: Solution, other: Solution) -> str:
    """Why two solutions are no points of one weight space; empty where they are."""
    shapes = [{name: tuple(value.shape) for name, value in held.params.items()} for held in (one, other)]
    if list(shapes[0]) != list(shapes[1]):
        return "their parameters have other names"
    differ = [name for name, shape in shapes[0].items() if shapes[1][name] != shape]
    if differ:
        return f"{differ[0]} has the shape {shapes[0][differ[0]]} in the one and {shapes[1][differ[0]]} in the other"
    return "" if set(one.buffers) == set(other.buffers) else "their buffers have other names"


def aligned(ends: Ends, rng: Rng, spec: PermutationSpec | None = None) -> Ends:
    """The ends with the units of the second in the order in which they are most like those of the first.

    Args:
        ends: as they are.
        rng: see `match_units`.
        spec: which units may change places; None finds it.

    Raises:
        ModelError: the network cannot be traced, or none of its units may move.
    """
    start, end = ends.start, ends.end
    if spec is None:
        batch = next(start.batches())
        # Of half precision the weights are raised elsewhere, the module is not.
        networks = [{**dict(zip(held.names, held.origin, strict=True)), **held.buffers} for held in (start, end)]
        spec = find_permutations(copy.deepcopy(start.module).to(start.dtype), batch.x, networks)
    if not spec.groups:
        raise ModelError("a network with units that may change places was required, none came: leave align out")
    one, other = (dict(zip(held.names, held.origin, strict=True)) for held in (start, end))
    orders = match_units(spec, one, other, rng)
    moving = {place.name for places in spec.groups.values() for place in places}
    still = tuple(name for name, value in one.items() if value.ndim > 1 and name not in moving)
    return replace(ends.moved(permuted(spec, {**other, **end.buffers}, orders)), in_place=still)


def curve_between(
    ends: Ends, *, rng: Rng, num_bends: int, num_steps: int, learning_rate: float, batch_size: int | None
) -> Path:
    """A Bezier curve along which the loss is low; see `train_bezier`."""
    must_be_rng(rng)
    slopes = ends.slopes(batch_size, rng.child("examples"))
    return train_bezier(
        slopes.next,
        *ends.vectors,
        rng=rng.child("moments"),
        num_bends=num_bends,
        num_steps=num_steps,
        learning_rate=learning_rate,
    )


def band_between(ends: Ends, *, rng: Rng, cycles: tuple[Cycle, ...], batch_size: int | None) -> Band:
    """An elastic band in the valley between the ends; see `auto_neb`."""
    must_be_rng(rng)
    slopes = ends.slopes(batch_size, rng.child("examples"))
    return auto_neb(slopes.next, ends.loss, *ends.vectors, cycles=cycles)
