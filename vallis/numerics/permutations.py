"""Which units of a network may change places without changing its function, and networks with their units moved.

A group is a set of units that move together: the outputs of one layer, the biases and normalisations behind them, the
inputs of the next. `vallis.numerics.permutation_tracing` finds the groups of a network; they may also be written down::

    places = (Place("0.weight", 0), Place("0.bias", 0), Place("2.weight", 1))
    PermutationSpec(groups={"hidden": places}, sizes={"hidden": 64})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vallis.core.errors import UsageError
from vallis.core.rng import Rng

Permutations = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Place:
    """Where a group stands in a tensor.

    Attributes:
        name: of the parameter or buffer.
        axis: along which its units lie.
        block: how many neighbouring entries belong to one unit, as behind a flattened image.
        start: the entry at which the first unit begins, as behind a concatenation.
    """

    name: str
    axis: int
    block: int = 1
    start: int = 0


@dataclass(frozen=True)
class PermutationSpec:
    """The symmetry group of a network.

    Attributes:
        groups: the places of each group, in the order from the inputs to the outputs.
        sizes: the number of units of each.
    """

    groups: Mapping[str, tuple[Place, ...]]
    sizes: Mapping[str, int]

    def must_fit(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Refuses a network of other shapes.

        Raises:
            UsageError: a tensor is missing or too short.
        """
        for group, places in self.groups.items():
            for place in places:
                held = tensors.get(place.name)
                wanted = place.start + self.sizes[group] * place.block
                if held is None or place.axis >= held.ndim or held.shape[place.axis] < wanted:
                    came = "none" if held is None else f"shape {tuple(held.shape)}"
                    raise UsageError(
                        f"{place.name} with at least {wanted} entries on axis {place.axis} was required by the group "
                        f"{group}, {came} came: write the groups of this network"
                    )


def permuted(
    spec: PermutationSpec, tensors: Mapping[str, torch.Tensor], permutations: Permutations
) -> dict[str, torch.Tensor]:
    """The tensors with their units moved: unit i of the result is unit ``permutations[group][i]`` of what was given.

    Raises:
        UsageError: the spec does not fit the tensors.
    """
    spec.must_fit(tensors)
    moved = dict(tensors)
    for group, order in permutations.items():
        for place in spec.groups[group]:
            moved[place.name] = moved_along(moved[place.name], place, order)
    return moved


def moved_along(value: torch.Tensor, place: Place, order: torch.Tensor) -> torch.Tensor:
    """One tensor with the units of one place moved."""
    index = torch.arange(value.shape[place.axis], device=value.device)
    blocks = index[place.start : place.start + len(order) * place.block].clone().view(-1, place.block)
    index[place.start : place.start + len(order) * place.block] = blocks[order.to(value.device)].reshape(-1)
    return value.index_select(place.axis, index)


def rows_of(value: torch.Tensor, place: Place, size: int) -> torch.Tensor:
    """``(size, rest)`` what each unit has at a place."""
    part = value.movedim(place.axis, 0)[place.start : place.start + size * place.block]
    return part.reshape(size, -1)


def random_permutations(spec: PermutationSpec, rng: Rng) -> dict[str, torch.Tensor]:
    """A random order of the units of each group."""
    return {
        group: torch.randperm(size, generator=rng.child("permutation", group).torch())
        for group, size in spec.sizes.items()
    }


def identity(spec: PermutationSpec) -> dict[str, torch.Tensor]:
    """Every unit where it is."""
    return {group: torch.arange(size) for group, size in spec.sizes.items()}


def other_places(spec: PermutationSpec, place: Place) -> Sequence[tuple[str, Place]]:
    """The groups that stand in the same tensor elsewhere, with their places."""
    return [
        (group, other)
        for group, places in spec.groups.items()
        for other in places
        if other.name == place.name and other != place
    ]
