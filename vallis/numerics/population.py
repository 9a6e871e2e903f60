"""The loss surfaces of K networks of one architecture as one function of K points.

Around a small network on few examples there is more work than in it, and for K of them it is done once: parameters lie
side by side, and `torch.func.vmap` calls every layer for all. What a network says then differs from what it says alone
by rounding. Whether networks are alike is asked twice: how they are set up is compared, and so is what each says of its
first examples, alone and among the others.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from vallis.core import tree
from vallis.core.data import Arrays, Batches, Stream
from vallis.core.functional import call, full_precision
from vallis.core.losses import Loss
from vallis.core.objective import Objective, Point
from vallis.core.types import Batch, Data
from vallis.numerics.likeness import are_equal, are_set_up_alike
from vallis.numerics.program_known import plan_of

# Fewer members gain nothing.
FEWEST = 3
# Of all members in a batch: what their layers keep is to stay near.
MOST_ROWS = 2**14
# Nor do large networks gain anything, and whoever solves something for each of them holds many vectors of each.
_MOST_NUMBERS = 2**21
# So many numbers in the answer of a convolution count for a row.
_NUMBERS_IN_A_ROW = 256
# What inputs and targets of their own may take, side by side; beyond, they are put together at every pass.
_MOST_BYTES = 2**28


@dataclass(frozen=True, eq=False, kw_only=True)
class JointBatch:
    """One batch of every member, and its share of their objectives.

    Attributes:
        share: ``(K,)`` float64.
        batches: of each member.
        x: the inputs of all, ``(K, B, ...)``, or of one where all have the same; `y` likewise.
        has_own_x: whether each member has inputs of its own; `has_own_y` likewise.
    """

    share: torch.Tensor
    batches: tuple[Batch, ...]
    x: Any
    y: Any
    has_own_x: bool
    has_own_y: bool

    @property
    def batch(self) -> Batch:
        """That of the first member."""
        return self.batches[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class JointTerm(JointBatch):
    """A batch beside its population, which keeps the batch alone, so as not to keep itself alive."""

    population: Population

    def outputs(self, point: Point) -> Any:
        """What the members return at their points, each with a first axis ``(K, ...)``."""
        ways = (0, 0, 0 if self.has_own_x else None)
        return torch.func.vmap(self.population.outputs_of_one, ways)(tuple(point), self.population.buffers, self.x)

    def losses(self, point: Point) -> torch.Tensor:
        """``(K,)`` the mean losses of the batch at the points of the members."""
        ways = (0, 0, 0 if self.has_own_x else None, 0 if self.has_own_y else None)
        return torch.func.vmap(self.population.loss_of_one, ways)(tuple(point), self.population.buffers, self.x, self.y)


class Population:
    """K objectives that are alike but for their numbers, see `together`.

    A point is a sequence of tensors ``(K, ...)``, one a trainable parameter; vectors are ``(K, P)``.

    Attributes:
        members: the objectives.
        names: the trainable parameters.
        origin: the members' own points.
        buffers: everything else that a network needs, by name, ``(K, ...)``.
    """

    def __init__(self, members: Sequence[Objective]) -> None:
        first = members[0]
        self.members = tuple(members)
        self.names, self.device, self.dtype = first.names, first.device, first.dtype
        self.num_parameters = first.num_parameters
        self.origin = tuple(torch.stack(parts) for parts in zip(*(each.origin for each in members), strict=True))
        self.buffers = {name: torch.stack([each.buffers[name] for each in members]) for name in first.buffers}

    def __len__(self) -> int:
        return len(self.members)

    def terms(self) -> Iterator[JointTerm]:
        """One pass over the examples, a term a batch; a batch that counts nothing is left out."""
        for examples in self._read() if self._kept is None else self._kept:
            yield JointTerm(population=self, **vars(examples))

    def losses(self, point: Point | None = None) -> torch.Tensor:
        """``(K,)`` float64: the mean loss of each member at its point, its own if None."""
        at = self.origin if point is None else point
        found = torch.zeros(len(self), dtype=torch.float64)
        with torch.no_grad():
            for term in self.terms():
                found += term.share * term.losses(at).double().cpu()
        return found

    def vectors(self, point: Point) -> torch.Tensor:
        """``(K, P)`` points as vectors."""
        return torch.cat([part.reshape(len(self), -1) for part in point], dim=1)

    def point(self, vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Vectors ``(K, P)`` as points."""
        parts = vectors.split([value[0].numel() for value in self.origin], dim=1)
        return tuple(part.reshape(value.shape) for part, value in zip(parts, self.origin, strict=True))

    def outputs_of_one(self, params: Point, buffers: dict[str, torch.Tensor], x: Any) -> Any:
        """What a member returns for its inputs."""
        return call(self._called[0], dict(zip(self.names, params, strict=True)), buffers, x)

    def loss_of_one(self, params: Point, buffers: dict[str, torch.Tensor], x: Any, y: Any) -> torch.Tensor:
        """The mean loss of a member on its inputs."""
        outputs = self.outputs_of_one(params, buffers, x)
        with full_precision():
            return self._called[1].mean(outputs, y)

    @cached_property
    def _called(self) -> tuple[nn.Module, Loss]:
        """The network and the loss that are called for all: copies, as what a call may keep in them is of all."""
        return copy.deepcopy((self.members[0].module, self.members[0].loss))

    @cached_property
    def _kept(self) -> list[JointBatch] | None:
        """The examples of data in memory, which are put together once; None where that would take much memory."""
        first, kept, size = self.members[0], [], 0
        if isinstance(first.data, Stream):
            return None
        for each in self._read():
            own = [held for held, is_own in ((each.x, each.has_own_x), (each.y, each.has_own_y)) if is_own]
            size += sum(leaf.numel() * leaf.element_size() for held in own for leaf in tree.tensors(held))
            if size > _MOST_BYTES:
                return None
            kept.append(each)
        return kept

    def _read(self) -> Iterator[JointBatch]:
        count_once(self.members)
        totals = torch.tensor([each.total_weight for each in self.members], dtype=torch.float64)
        for batches in self._batches():
            weights = [each.loss.weight(batch.y) for each, batch in zip(self.members, batches, strict=True)]
            if any(weight > 0 for weight in weights):
                x, own_x = _joint([batch.x for batch in batches])
                y, own_y = _joint([batch.y for batch in batches])
                share = torch.tensor(weights, dtype=torch.float64) / totals
                yield JointBatch(share=share, batches=batches, x=x, y=y, has_own_x=own_x, has_own_y=own_y)

    def _batches(self) -> Iterator[tuple[Batch, ...]]:
        first = self.members[0]
        if all(each.data is first.data for each in self.members):
            yield from ((batch,) * len(self) for batch in first.batches())
        else:
            yield from zip(*(each.batches() for each in self.members), strict=True)

    @property
    def witnesses(self) -> Sequence[int]:
        """Which members are asked whether they say together what they say alone.

        Of networks of torch's own layers, which are what they are set up as, the last speaks for all.
        """
        return range(len(self)) if plan_of(self.members[0].module) is None else [len(self) - 1]

    def _is_proved(self) -> bool:
        """Whether the witnesses say together what they say alone of their first examples."""
        try:
            with torch.no_grad():
                term = next(self.terms())
                losses = term.losses(self.origin)
                outputs = unstacked(term.outputs(self.origin), len(self))
                return all(
                    self._says_alone(place, term.batches[place], outputs[place], losses[place])
                    for place in self.witnesses
                )
        except Exception:  # whatever they say of it alone
            return False

    def _says_alone(self, place: int, batch: Batch, outputs: Any, loss: torch.Tensor) -> bool:
        member = self.members[place]
        alone = member.outputs_at(member.origin, batch)
        return _are_close(outputs, alone) and _are_close(loss, member.loss.mean(alone, batch.y))


def together(objectives: Sequence[Objective], most_rows: int) -> list[tuple[tuple[int, ...], Population | None]]:
    """The populations that some objectives make, with the places of their members.

    Args:
        objectives: K loss surfaces.
        most_rows: on batches of more examples the layers are all there is, and nothing would be gained. How many that
            is hangs on what is computed; an image counts for every 256 numbers that a convolution may make of it.

    Returns:
        Those that would gain nothing, or can only be computed alone, come one by one, with None.
    """
    if len(objectives) < FEWEST:
        return [((place,), None) for place in range(len(objectives))]
    kin: list[list[int]] = []
    for place, objective in enumerate(objectives):
        near = (group for group in kin if _are_kin(objectives[group[0]], objective))
        group = next(near, None) if _rows(objective, most_rows) <= most_rows else None
        if group is None:
            kin.append([place])
        else:
            group.append(place)
    found: list[tuple[tuple[int, ...], Population | None]] = []
    for group in kin:
        for part in _parts(group, objectives[group[0]], most_rows):
            population = Population([objectives[place] for place in part]) if len(part) >= FEWEST else None
            if population is not None and population._is_proved():
                found.append((tuple(part), population))
            else:
                found += [((place,), None) for place in part]
    return found


def unstacked(outputs: Any, num_members: int) -> list[Any]:
    """What each member returned, from what all did ``(K, ...)``."""
    return [tree.map_tensors(partial(torch.select, dim=0, index=place), outputs) for place in range(num_members)]


def _parts(group: list[int], first: Objective, most_rows: int) -> list[list[int]]:
    """A group in parts of a size that pays, as even as may be."""
    most = min(MOST_ROWS // _rows(first, most_rows), _MOST_NUMBERS // first.num_parameters)
    if most < FEWEST:
        return [[place] for place in group]
    num_parts = -(-len(group) // most)
    return [group[place::num_parts] for place in range(num_parts)]


def _rows(objective: Objective, most: int) -> int:
    """How many rows the largest batch makes of a member."""
    if isinstance(objective.data, Stream):  # which may be long, and is not read for this alone
        return most + 1
    widths = [part.out_channels for part in objective.module.modules() if isinstance(part, nn.modules.conv._ConvNd)]
    widest = max(widths, default=0)
    return max([1, *(len(batch) * _rows_of_one(batch, widest) for batch in objective.data)])


def _rows_of_one(batch: Batch, num_channels: int) -> int:
    """How many rows an example is, for a convolution with so many channels; none has a single one."""
    places = max((leaf.shape[2:].numel() for leaf in tree.tensors(batch.x)), default=1) if num_channels else 1
    return -(-places * num_channels // _NUMBERS_IN_A_ROW) or 1


def _are_kin(one: Objective, other: Objective) -> bool:
    if one is other:
        return True
    same = one.names == other.names and (one.dtype, one.device) == (other.dtype, other.device)
    return (
        same
        and _shapes(one.origin) == _shapes(other.origin)
        and {name: _shapes([held]) for name, held in one.buffers.items()}
        == {name: _shapes([held]) for name, held in other.buffers.items()}
        and are_equal(one.loss, other.loss)
        and _lie_alike(one.data, other.data)
        and _count_alike(one, other)
        and are_set_up_alike(one.module, other.module)
    )


def _shapes(tensors: Sequence[torch.Tensor]) -> list[tuple[torch.Size, torch.dtype]]:
    return [(tensor.shape, tensor.dtype) for tensor in tensors]


def _lie_alike(one: Data, other: Data) -> bool:
    """Whether examples come in batches of the same shapes."""
    if one is other:
        return True
    if type(one) is not type(other) or not isinstance(one, (Arrays, Batches)) or len(one) != len(other):
        return False
    if isinstance(one, Arrays) and isinstance(other, Arrays) and one.batch_size != other.batch_size:
        return False
    return are_equal([_layout(batch) for batch in one], [_layout(batch) for batch in other])


def _layout(batch: Batch) -> Any:
    """Inputs and targets without the numbers in their tensors."""
    return tree.map_tensors(lambda leaf: (leaf.shape, leaf.dtype), (batch.x, batch.y))


def _count_alike(one: Objective, other: Objective) -> bool:
    """Whether the same batches count something."""
    if one.data is other.data:
        return True
    return [one.loss.weight(batch.y) > 0 for batch in one.data] == [
        other.loss.weight(batch.y) > 0 for batch in other.data
    ]


def count_once(objectives: Sequence[Objective]) -> None:
    """What counts is counted once for all that look at the same object by the same loss."""
    known: dict[int, list[Objective]] = {}
    for objective in objectives:
        for other in known.setdefault(id(objective.data), []):
            if are_equal(other.loss, objective.loss):
                objective.counts_as(other)
                break
        else:
            known[id(objective.data)].append(objective)


def _joint(parts: Sequence[Any]) -> tuple[Any, bool]:
    """The trees of all members as one ``(K, ...)``, or that of the first, where all are the same."""
    first = parts[0]
    if all(part is first or are_equal(part, first) for part in parts[1:]):
        return first, False
    leaves = zip(*(tree.tensors(part) for part in parts), strict=True)
    stacked = iter([torch.stack(each) for each in leaves])
    return tree.map_tensors(lambda _: next(stacked), first), True


def _are_close(found: Any, wanted: Any) -> bool:
    pairs = list(zip(tree.tensors(found), tree.tensors(wanted), strict=True))
    return bool(pairs) and all(one.shape == other.shape and _is_close(one, other) for one, other in pairs)


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors differ by no more than rounding beside their largest number."""
    far = torch.finfo(other.dtype).eps ** 0.5 if other.is_floating_point() else 0.0
    one, other = one.double(), other.double()
    largest = float(other.abs().nan_to_num(0, 0, 0).amax()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=far, atol=far * largest, equal_nan=True)
