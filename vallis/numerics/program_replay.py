"""A run of K members in which every tensor has its place: what each step does is decided once.

Deciding what to call on what takes as long as the calling, for networks of a few layers. Where a program is one chain
of layers that leave shapes alone, the weights lie side by side and the inputs always come in the same memory, all of it
is decided before the first step. The numbers are those of `vallis.numerics.program_stack`, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from vallis.numerics.batched_products import AFFINE, BIAS_SLOPES, LINEAR, WEIGHT_SLOPES, input_slopes_of
from vallis.numerics.batched_values import slopes_of, values_of
from vallis.numerics.program import Instruction, Program, Slot
from vallis.numerics.program_kernels import Activation, Dropout, Flatten, Linear
from vallis.numerics.program_stack import Members
from vallis.numerics.same_bits import bound
from vallis.numerics.stacked import Stacked, is_even

aten = torch.ops.aten

Call = Callable[[], object]
# What the way back calls, in order, and the slopes of the layer's inputs, if they are wanted.
_Back = Callable[[Stacked], tuple[list[Call], "Stacked | None"]]


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer of a chain: its output, what computes it, and the way back."""

    out: Stacked
    forward: list[Call]
    back: _Back
    is_product: bool = False


class Replay:
    """Forward and back through one chain of layers, over inputs that always come in the same memory.

    Args:
        program: for which `can_replay` holds.
        members: their weights.
        x: where the inputs come.

    It holds for the number of threads that torch uses when it is made: with another one other ways may be right.

    Attributes:
        x: likewise.
        outputs: what the last run found; the next one writes over it.
    """

    def __init__(self, program: Program, members: Members, x: Stacked) -> None:
        self.x = x
        layers: list[_Layer] = []
        for instruction in program.instructions:
            layers.append(_layer(instruction, members, layers[-1] if layers else None, x))
        self.outputs = layers[-1].out
        self._forward = [call for layer in layers for call in layer.forward]
        self._slope = Stacked.empty(len(members), self.outputs.shape, self.outputs.rows)
        self._back: list[Call] = []
        slope: Stacked | None = self._slope
        for instruction, layer in zip(reversed(program.instructions), reversed(layers), strict=True):
            if slope is None or not instruction.moves:
                break
            calls, slope = layer.back(slope)
            self._back += calls

    def forward(self) -> Stacked:
        """The outputs for the inputs that lie in `x`; to be called without recording gradients."""
        for call in self._forward:
            call()
        return self.outputs

    def backward(self, slope: Stacked) -> None:
        """Puts the gradient of every trainable parameter of every member into its weights' slopes."""
        self._slope.whole.copy_(slope.whole)
        for call in self._back:
            call()


def can_replay(program: Program, members: Members, x: Stacked) -> bool:
    """Whether it is one chain of layers whose every step can be decided beforehand, for inputs like these."""
    writes = [0, *(instruction.writes for instruction in program.instructions)]
    if program.output != writes[-1] or x.is_apart:
        return False
    if any(each.inputs != (Slot(place),) for each, place in zip(program.instructions, writes, strict=False)):
        return False
    shape = x.shape
    for instruction in program.instructions:
        kernel = instruction.kernel
        if isinstance(kernel, Linear):
            if not members.hold(kernel.weight, kernel.bias):
                return False
            shape = torch.Size((*shape[:-1], members.values[kernel.weight].shape[1]))
        elif isinstance(kernel, Flatten):
            shape = torch.Size((shape[0], math.prod(shape[1:])))
        elif isinstance(kernel, Activation):
            if not kernel.exact and not is_even(len(members), math.prod(shape), x.rows.dtype):
                return False
        elif not isinstance(kernel, Dropout):
            return False
    return True


def _layer(instruction: Instruction, members: Members, before: _Layer | None, inputs: Stacked) -> _Layer:
    kernel, x = instruction.kernel, inputs if before is None else before.out
    if isinstance(kernel, Linear):
        return _linear(kernel, members, x, instruction.wanted[0])
    if isinstance(kernel, Dropout):
        return _dropout(kernel, members, x)
    if isinstance(kernel, Flatten):
        shape = x.shape
        return _Layer(x.reshaped(shape[0], math.prod(shape[1:])), [], lambda slope: ([], slope.reshaped(*shape)))
    assert isinstance(kernel, Activation)
    if kernel.value is torch.relu and before is not None and before.is_product:
        return _relu_in_place(x)
    return _exact_activation(kernel, x) if kernel.exact else _activation(kernel, members, x)


def _linear(kernel: Linear, members: Members, x: Stacked, is_wanted: bool) -> _Layer:
    rows = x if len(x.shape) == 2 else x.reshaped(math.prod(x.shape[:-1]), x.shape[-1])
    weight, bias = members.values[kernel.weight], None if kernel.bias is None else members.values[kernel.bias]
    out = Stacked.empty(len(members), (rows.shape[0], weight.shape[1]), weight)
    forward = bound(LINEAR if bias is None else AFFINE, rows.whole, weight, bias, out.whole)

    def back(slope: Stacked) -> tuple[list[Call], Stacked | None]:
        slope = slope.reshaped(*out.shape)
        calls: list[Call] = []
        if kernel.weight in kernel.trained:
            place = members.slopes[kernel.weight]
            calls.append(bound(WEIGHT_SLOPES, slope.whole, rows.whole, place))
        if kernel.bias is not None and kernel.bias in kernel.trained:
            calls.append(bound(BIAS_SLOPES, slope.whole, members.slopes[kernel.bias]))
        if not is_wanted:
            return calls, None
        found = Stacked.empty(len(members), rows.shape, slope.rows)
        calls.append(bound(input_slopes_of(rows.shape), slope.whole, weight, found.whole))
        return calls, found.reshaped(*x.shape)

    return _Layer(out.reshaped(*x.shape[:-1], weight.shape[1]), [forward], back, is_product=True)


def _relu_in_place(x: Stacked) -> _Layer:
    """Over a product: nobody needs what it was before."""

    def back(slope: Stacked) -> tuple[list[Call], Stacked]:
        return [partial(aten.threshold_backward.grad_input, slope.rows, x.rows, 0, grad_input=slope.rows)], slope

    return _Layer(x, [partial(torch.relu_, x.rows)], back)


def _exact_activation(kernel: Activation, x: Stacked) -> _Layer:
    out = x.like(torch.zeros_like(x.rows))

    def forward() -> None:
        out.rows.copy_(kernel.value(x.rows))

    def back(slope: Stacked) -> tuple[list[Call], Stacked]:
        return [lambda: slope.rows.copy_(kernel.slope(slope.rows, x.rows, out.rows))], slope

    return _Layer(out, [forward], back)


def _activation(kernel: Activation, members: Members, x: Stacked) -> _Layer:
    out = Stacked.empty(len(members), x.shape, x.rows)

    def back(slope: Stacked) -> tuple[list[Call], Stacked]:
        found = Stacked.empty(len(members), slope.shape, slope.rows)
        return [bound(slopes_of(kernel), slope.whole, x.whole, out.whole, found.whole)], found

    return _Layer(out, [bound(values_of(kernel), x.whole, out.whole)], back)


def _dropout(kernel: Dropout, members: Members, x: Stacked) -> _Layer:
    mask, out = (Stacked.empty(len(members), x.shape, x.rows) for _ in range(2))

    def forward() -> None:
        for weights, place in zip(members.each, mask.members, strict=True):
            place.bernoulli_(1 - kernel.p, generator=weights.generator)
        mask.rows.div_(1 - kernel.p)
        torch.mul(x.rows, mask.rows, out=out.rows)

    def back(slope: Stacked) -> tuple[list[Call], Stacked]:
        return [partial(torch.mul, slope.rows, mask.rows, out=slope.rows)], slope

    return _Layer(out, [forward], back)
