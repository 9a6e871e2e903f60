"""Weight matching: the units of one network put into the order in which they are most like those of another.

Coordinate ascent on ``<theta_A, P theta_B>`` over the permutations P of the groups: with all others held, the best
order of one group is a linear assignment. A group that stands on two axes of one tensor makes that quadratic; its
assignment is then taken only if the objective has risen, so that it never falls.

Source: Ainsworth et al. (2023), Git Re-Basin, section 3.2 and algorithm 1. It starts from the units as they are; here
also from a sweep from the inputs to the outputs, which undoes exactly what is nothing but a permutation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from vallis.core.rng import Rng
from vallis.numerics.permutations import (
    Permutations,
    PermutationSpec,
    Place,
    identity,
    moved_along,
    other_places,
    permuted,
    rows_of,
)

Tensors = Mapping[str, torch.Tensor]


def match_units(
    spec: PermutationSpec, one: Tensors, other: Tensors, rng: Rng, max_sweeps: int = 100
) -> dict[str, torch.Tensor]:
    """The permutations of the other network's units (see `permuted`) that bring its weights nearest to the one's.

    Args:
        spec: the groups of both.
        one: trainable parameters by name; tensors of the spec that are not among them (running statistics) follow, and
            are not compared.
        other: those of the other network.
        rng: chooses the order in which groups are visited.
        max_sweeps: over all groups, from each start.

    Raises:
        UsageError: the spec does not fit.
    """
    compared = _only(spec, one)
    compared.must_fit(one)
    compared.must_fit(other)
    one, other = ({name: value.detach().double().cpu() for name, value in held.items()} for held in (one, other))
    starts = [identity(spec), _swept(compared, one, other)]
    found = [_climbed(compared, one, other, start, rng.child(place), max_sweeps) for place, start in enumerate(starts)]
    return max(found, key=lambda orders: likeness(compared, one, other, orders))


def likeness(spec: PermutationSpec, one: Tensors, other: Tensors, permutations: Permutations) -> float:
    """``<theta_A, P theta_B>`` over the parameters in which a group stands."""
    names = {place.name for places in spec.groups.values() for place in places}
    moved = permuted(spec, {name: other[name] for name in names}, permutations)
    return float(sum((one[name] * moved[name]).sum() for name in sorted(names)))


def _only(spec: PermutationSpec, known: Tensors) -> PermutationSpec:
    groups = {group: tuple(p for p in places if p.name in known) for group, places in spec.groups.items()}
    return PermutationSpec(groups=groups, sizes=spec.sizes)


def _swept(spec: PermutationSpec, one: Tensors, other: Tensors) -> dict[str, torch.Tensor]:
    """Each group by what its units get from groups before it, from the inputs on."""
    found: dict[str, torch.Tensor] = {}
    for group, places in spec.groups.items():
        gains = np.zeros((spec.sizes[group], spec.sizes[group]))
        for place in places:
            beside = other_places(spec, place)
            if all(name in found for name, _ in beside):
                gains += _gains(spec, one, other, group, place, found)
        found[group] = _assigned(gains)
    return found


def _climbed(
    spec: PermutationSpec, one: Tensors, other: Tensors, start: dict[str, torch.Tensor], rng: Rng, max_sweeps: int
) -> dict[str, torch.Tensor]:
    orders, height = dict(start), likeness(spec, one, other, start)
    names = list(spec.groups)
    for sweep in range(max_sweeps):
        before = height
        for index in torch.randperm(len(names), generator=rng.child("sweep", sweep).torch()).tolist():
            group = names[index]
            gains = sum(_gains(spec, one, other, group, place, orders) for place in spec.groups[group])
            if isinstance(gains, int):
                continue
            tried = {**orders, group: _assigned(gains)}
            reached = likeness(spec, one, other, tried)
            if reached > height + 1e-12 * abs(height):
                orders, height = tried, reached
        if height <= before:
            break
    return orders


def _gains(
    spec: PermutationSpec, one: Tensors, other: Tensors, group: str, place: Place, orders: Permutations
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """``(size, size)`` how like unit i of the one is to unit j of the other, at one place, the others as they stand."""
    value = other[place.name]
    for beside, there in other_places(spec, place):
        value = moved_along(value, there, orders[beside])
    size = spec.sizes[group]
    gains: np.ndarray[tuple[int, int], np.dtype[np.float64]] = (
        rows_of(one[place.name], place, size) @ rows_of(value, place, size).T
    ).numpy()
    return gains


def _assigned(gains: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> torch.Tensor:
    _, columns = linear_sum_assignment(gains, maximize=True)
    return torch.from_numpy(columns.astype(np.int64))
