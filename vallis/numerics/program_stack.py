"""Runs the program of one architecture for K sets of weights at once.

What a kernel does to each number alone is done for all members in one call, and so are the products of linear layers
where that gives the bits of a product alone (`vallis.numerics.batched_products`). Convolutions, normalisations and all
else is made member by member, in the memory layout it has in a run of one. So a member's losses and slopes have the
bits that it would have alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import torch

from vallis.numerics.batched_products import AFFINE, BIAS_SLOPES, LINEAR, WEIGHT_SLOPES, input_slopes_of
from vallis.numerics.batched_values import slopes_of, values_of
from vallis.numerics.program import Program, filled
from vallis.numerics.program_kernels import (
    Activation,
    Dropout,
    Flatten,
    Kernel,
    Linear,
    Weights,
)
from vallis.numerics.same_bits import Way, chosen
from vallis.numerics.stacked import Stacked


@dataclass(frozen=True, eq=False)
class Members:
    """The weights of K members, each as a run of one takes them.

    Attributes:
        each: by member.
        values: the trainable parameters of all, by name, ``(K, *shape)``: views, where they lie side by side at equal
            distances; nothing where they do not.
        slopes: likewise where the gradients are put.
        ways: what was chosen for them, once for all runs.
        rooms: the memory of a run, which serves the next one again.
    """

    each: tuple[Weights, ...]
    values: Mapping[str, torch.Tensor] = field(default_factory=dict)
    slopes: Mapping[str, torch.Tensor] = field(default_factory=dict)
    ways: dict[Hashable, Way] = field(default_factory=dict)
    rooms: dict[Hashable, Stacked] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.each)

    def hold(self, *names: str | None) -> bool:
        """Whether all of these parameters, as far as there are any, lie side by side."""
        return all(name is None or name in self.values for name in names)

    def room(self, what: Hashable, shape: Sequence[int], like: torch.Tensor) -> Stacked:
        """Where the tensors of one instruction go, ``(K, *shape)``; what the run before put there is lost."""
        key = what, tuple(shape)
        if key not in self.rooms:
            self.rooms[key] = Stacked.empty(len(self), shape, like)
        return self.rooms[key]

    def run(self, layer: str, ways: tuple[Way, ...], *operands: torch.Tensor | None) -> None:
        """Runs the quickest of the right ways; those of one layer hang on the first operand alone."""
        first = operands[0]
        assert first is not None
        key = layer, ways, first.shape, first.stride(), torch.get_num_threads()
        way = self.ways.get(key)
        if way is None:
            way = self.ways[key] = chosen(ways, *operands)
        way(*operands)


def forward(program: Program, members: Members, x: Stacked) -> tuple[Stacked, list[Any]]:
    """The outputs of all members, and what `backward` needs; to be called without recording gradients.

    They lie in memory that the next run of these members uses again.
    """
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
                slopes[place] = gradient if known is None else known.plus(gradient)


# ------------------------------------------------------------------------------------------- kernels, member by member

_Slopes = tuple["Stacked | None", ...]


@singledispatch
def forward_of(kernel: Kernel, members: Members, *inputs: Any) -> tuple[Any, Any]:
    """The output of a kernel for all members, and what it keeps; unless told otherwise it is run for each."""
    runs = [kernel.forward(weights, *(_member(value, k) for value in inputs)) for k, weights in enumerate(members.each)]
    outs = [out for out, _ in runs]
    out = Stacked.apart(outs) if isinstance(outs[0], torch.Tensor) else outs[0]
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
    if not members.hold(kernel.weight, kernel.bias):
        return _each(kernel, members, x)
    rows = x if len(x.shape) == 2 else x.reshaped(math.prod(x.shape[:-1]), x.shape[-1])
    weight, bias = members.values[kernel.weight], None if kernel.bias is None else members.values[kernel.bias]
    out = members.room(kernel.weight, (rows.shape[0], weight.shape[1]), weight)
    ways = LINEAR if bias is None else AFFINE
    members.run(kernel.weight, ways, rows.whole, weight, bias, out.whole)
    return out if rows is x else out.reshaped(*x.shape[:-1], weight.shape[1]), (rows, x.shape)


@backward_of.register
def _(kernel: Linear, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    if not members.hold(kernel.weight, kernel.bias):
        return _each_back(kernel, members, kept, slope, wanted)
    rows, shape = kept
    if len(shape) != 2:
        slope = slope.reshaped(rows.shape[0], slope.shape[-1])
    if kernel.weight in kernel.trained:
        members.run(kernel.weight, WEIGHT_SLOPES, slope.whole, rows.whole, members.slopes[kernel.weight])
    if kernel.bias is not None and kernel.bias in kernel.trained:
        members.run(kernel.weight, BIAS_SLOPES, slope.whole, members.slopes[kernel.bias])
    if not wanted[0]:
        return (None,)
    found, ways = members.room((kernel.weight, "slopes"), rows.shape, slope.rows), input_slopes_of(rows.shape)
    members.run(kernel.weight, ways, slope.whole, members.values[kernel.weight], found.whole)
    return (found if len(shape) == 2 else found.reshaped(*shape),)


@forward_of.register
def _(kernel: Activation, members: Members, x: Stacked) -> tuple[Stacked, Any]:
    # Large tensors that lie apart are not worth the copy that would bring them together.
    if x.is_apart or not (kernel.exact or x.is_even):
        return _each(kernel, members, x)
    if kernel.exact:
        out = x.like(kernel.value(x.rows))
    else:
        out = Stacked.empty(len(members), x.shape, x.rows)
        members.run("", values_of(kernel), x.whole, out.whole)
    return out, _Together(x, out)


@backward_of.register
def _(kernel: Activation, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    if not isinstance(kept, _Together):
        return _each_back(kernel, members, kept, slope, wanted)
    if kernel.exact:
        return (slope.like(kernel.slope(slope.rows, kept.x.rows, kept.out.rows)),)
    found = Stacked.empty(len(members), slope.shape, slope.rows)
    members.run("", slopes_of(kernel), slope.whole, kept.x.whole, kept.out.whole, found.whole)
    return (found,)


@forward_of.register
def _(kernel: Flatten, members: Members, x: Stacked) -> tuple[Stacked, Any]:
    return x.reshaped(x.shape[0], math.prod(x.shape[1:])), x.shape


@backward_of.register
def _(kernel: Flatten, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    return (slope.reshaped(*kept),)


@forward_of.register
def _(kernel: Dropout, members: Members, x: Stacked) -> tuple[Stacked, Any]:
    mask = Stacked.empty(len(members), x.shape, x.rows)
    for weights, place in zip(members.each, mask.members, strict=True):
        place.bernoulli_(1 - kernel.p, generator=weights.generator)
    mask.rows.div_(1 - kernel.p)
    return x.like(x.rows * mask.rows), mask.rows


@backward_of.register
def _(kernel: Dropout, members: Members, kept: Any, slope: Stacked, wanted: tuple[bool, ...]) -> _Slopes:
    return (slope.like(slope.rows * kept),)


@dataclass(frozen=True, eq=False)
class _Together:
    """The inputs and outputs of an activation for all members."""

    x: Stacked
    out: Stacked


_each: Callable[..., tuple[Any, Any]] = forward_of.dispatch(object)
_each_back: Callable[..., _Slopes] = backward_of.dispatch(object)


def _member(value: Any, k: int) -> Any:
    if isinstance(value, Stacked):
        return value.members[k]
    return type(value)(_member(part, k) for part in value) if type(value) in (list, tuple) else value


def _stacked(parts: Sequence[torch.Tensor | None]) -> Stacked | None:
    found = [part for part in parts if part is not None]
    return Stacked.apart(found) if found else None
