"""Runs the program of one architecture for K sets of weights at once.

What a kernel does to each number alone is done for all members in one call. Products, convolutions and sums over the
batch are made member by member, in the memory layout they have in a run of one: so a member's losses and slopes have
the bits that it would have alone, and what is saved is the work around the kernels. (One batched product for all is no
quicker on a CPU, and rounds differently for some shapes: see docs/decisions.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, singledispatch
from typing import Any

import torch

from vallis.numerics.program import Program, filled
from vallis.numerics.program_kernels import (
    Activation,
    Dropout,
    Flatten,
    Kernel,
    Linear,
    Weights,
)

ALIGNED = 64  # bytes: where torch begins a tensor of its own; elsewhere matrix products may round differently


@dataclass(frozen=True, eq=False)
class Stacked:
    """One tensor for each of K members.

    Attributes:
        rows: ``(K, S)``, S being the number of elements, rounded up so that every row begins aligned; what stands in
            the gap means nothing.
        shape: of each.
    """

    rows: torch.Tensor
    shape: torch.Size

    @staticmethod
    def empty(num_members: int, shape: Sequence[int], dtype: torch.dtype) -> Stacked:
        """Room for K tensors of this shape."""
        size = aligned(math.prod(shape), dtype)
        rows = torch.empty(num_members, size, dtype=dtype)
        rows[:, math.prod(shape) :] = 0  # rubbish there might be slow to compute with
        return Stacked(rows, torch.Size(shape))

    @staticmethod
    def of(members: Sequence[torch.Tensor]) -> Stacked:
        """Copies of these, side by side."""
        made = Stacked.empty(len(members), members[0].shape, members[0].dtype)
        for place, member in zip(made.members, members, strict=True):
            place.copy_(member)
        return made

    @staticmethod
    def of_whole(whole: torch.Tensor) -> Stacked:
        """The K tensors that are the first axis of this; a view where that is possible."""
        rows = whole.flatten(1)
        if rows.shape[1] == aligned(rows.shape[1], rows.dtype) and rows.is_contiguous():
            return Stacked(rows, whole.shape[1:])
        return Stacked.of(whole.unbind())

    @cached_property
    def whole(self) -> torch.Tensor:
        """``(K, *shape)``, a view."""
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        return self.rows.as_strided((len(self.rows), *self.shape), (self.rows.stride(0), *strides))

    @cached_property
    def members(self) -> tuple[torch.Tensor, ...]:
        """The K tensors, as views."""
        return self.whole.unbind()

    def like(self, rows: torch.Tensor) -> Stacked:
        """Other numbers in the same places."""
        return Stacked(rows, self.shape)


def aligned(size: int, dtype: torch.dtype) -> int:
    """The number of elements, rounded up to where the next tensor may begin."""
    step = ALIGNED // dtype.itemsize
    return -(-size // step) * step


@dataclass(frozen=True, eq=False)
class Members:
    """The weights of K members, each as a run of one takes them; trainable ones also stacked.

    Attributes:
        each: by member.
    """

    each: tuple[Weights, ...]

    def __len__(self) -> int:
        return len(self.each)


def forward(program: Program, members: Members, x: Stacked) -> tuple[Stacked, list[Any]]:
    """The outputs of all members, and what `backward` needs; to be called without recording gradients."""
    memory: dict[int, Any] = {0: x}
    kept = []
    for instruction in program.instructions:
        inputs = [filled(value, memory) for value in instruction.inputs]
        memory[instruction.writes], held = forward_of(instruction.kernel, members, *inputs)
        kept.append(held)
    out: Stacked = memory[program.output]
    return out, kept


def backward(program: Program, members: Members, kept: Sequence[Any], slope: Stacked) -> None:
    """Puts the gradient of every trainable parameter of every member into its weights' slopes."""
    slopes: dict[int, Stacked] = {program.output: slope}
    for instruction, held in zip(reversed(program.instructions), reversed(kept), strict=True):
        arrived = slopes.pop(instruction.writes, None)
        if arrived is None or not instruction.moves:
            continue
        found = backward_of(instruction.kernel, members, held, arrived, instruction.wanted)
        for place, gradient in zip(instruction.reads, found, strict=True):
            if gradient is not None:
                known = slopes.get(place)
                slopes[place] = gradient if known is None else known.like(known.rows + gradient.rows)


# ------------------------------------------------------------------------------------------- kernels, member by member

_Slopes = tuple["Stacked | None", ...]


@singledispatch
def forward_of(kernel: Kernel, members: Members, *inputs: Any) -> tuple[Any, Any]:
    """The output of a kernel for all members, and what it keeps; unless told otherwise it is run for each."""
    runs = [kernel.forward(weights, *(_member(value, k) for value in inputs)) for k, weights in enumerate(members.each)]
    outs = [out for out, _ in runs]
    out = Stacked.of(outs) if isinstance(outs[0], torch.Tensor) else outs[0]
    return out, [held for _, held in runs]


@singledispatch
def backward_of(kernel: Kernel, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    """The slopes of the inputs of a kernel for all members."""
    runs = [
        kernel.backward(weights, held, part, wanted)
        for weights, held, part in zip(members.each, kept, slope.members, strict=True)
    ]
    return tuple(_stacked([run[place] for run in runs]) for place in range(len(wanted)))


@forward_of.register
def _(kernel: Linear, members: Members, x: Stacked) -> tuple[Stacked, Any]:
    if len(x.shape) != 2:
        return _each(kernel, members, x)
    dtype = members.each[0].values[kernel.weight].dtype
    out = Stacked.empty(len(members), (x.shape[0], len(members.each[0].values[kernel.weight])), dtype)
    parts = zip(members.each, x.members, out.members, strict=True)
    if kernel.bias is None:
        for weights, rows, place in parts:
            torch.mm(rows, weights.values[kernel.weight].t(), out=place)
    else:
        for weights, rows, place in parts:
            values = weights.values
            torch.addmm(values[kernel.bias], rows, values[kernel.weight].t(), out=place)
    return out, x


@backward_of.register
def _(kernel: Linear, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    if not isinstance(kept, Stacked):
        return _each_back(kernel, members, kept, slope, wanted)
    parts = slope.members
    if kernel.weight in kernel.trained:
        for weights, part, rows in zip(members.each, parts, kept.members, strict=True):
            torch.mm(part.t(), rows, out=weights.slopes[kernel.weight])
    if kernel.bias in kernel.trained:
        for weights, part in zip(members.each, parts, strict=True):
            torch.sum(part, 0, out=weights.slopes[kernel.bias])
    if not wanted[0]:
        return (None,)
    found = Stacked.empty(len(members), kept.shape, kept.rows.dtype)
    for weights, part, place in zip(members.each, parts, found.members, strict=True):
        torch.mm(part, weights.values[kernel.weight], out=place)
    return (found,)


@forward_of.register
def _(kernel: Activation, members: Members, x: Stacked) -> tuple[Stacked, Any]:
    if not kernel.exact:
        return _each(kernel, members, x)
    out = kernel.value(x.rows)
    return x.like(out), (x.rows, out)


@backward_of.register
def _(kernel: Activation, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    if not kernel.exact:
        return _each_back(kernel, members, kept, slope, wanted)
    return (slope.like(kernel.slope(slope.rows, *kept)),)


@forward_of.register
def _(kernel: Flatten, members: Members, x: Stacked) -> tuple[Stacked, Any]:
    return Stacked(x.rows, torch.Size((x.shape[0], math.prod(x.shape[1:])))), x.shape


@backward_of.register
def _(kernel: Flatten, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    return (Stacked(slope.rows, kept),)


@forward_of.register
def _(kernel: Dropout, members: Members, x: Stacked) -> tuple[Stacked, Any]:
    mask = Stacked.empty(len(members), x.shape, x.rows.dtype)
    for weights, place in zip(members.each, mask.members, strict=True):
        place.bernoulli_(1 - kernel.p, generator=weights.generator)
    mask.rows.div_(1 - kernel.p)
    return x.like(x.rows * mask.rows), mask.rows


@backward_of.register
def _(kernel: Dropout, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    return (slope.like(slope.rows * kept),)


_each: Callable[..., tuple[Any, Any]] = forward_of.dispatch(object)
_each_back: Callable[..., _Slopes] = backward_of.dispatch(object)


def _member(value: Any, k: int) -> Any:
    if isinstance(value, Stacked):
        return value.members[k]
    return type(value)(_member(part, k) for part in value) if type(value) in (list, tuple) else value


def _stacked(parts: Sequence[torch.Tensor | None]) -> Stacked | None:
    found = [part for part in parts if part is not None]
    return Stacked.of(found) if found else None
