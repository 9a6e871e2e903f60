"""A network in eval mode as a straight line of kernels, evaluated at many points of weight space on the same examples.

What surrounds the kernels (modules that call modules, states that are saved and put back) is spared at every point.
And the first layer is linear in its weights: ``(W + a D) x = W x + a D x``. On examples that stay, both products are
made once, and a point costs a sum instead, which for many networks is most of the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, singledispatch
from typing import Any

import torch
from torch.nn import functional as F

from vallis.core.objective import Objective
from vallis.core.types import Batch
from vallis.numerics.program import Instruction, Program, filled
from vallis.numerics.program_graph import NoProgram
from vallis.numerics.program_kernels import (
    Activation,
    BatchNorm,
    Convolution,
    Dropout,
    HalvingMaxPool,
    Kernel,
    Linear,
    Plain,
    Weights,
    in_place,
    quarters,
)
from vallis.numerics.program_tracing import traced

# What the answers of the first layer may take, for the origin, two directions and two working copies.
MOST_BYTES = 2**29
_COPIES = 5
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class Straight:
    """The line of a network.

    Attributes:
        program: its kernels.
        buffers: what does not move.
        first: the place of the first layer among the instructions, before which nothing has weights; None where no
            layer can be said to be the first.
    """

    program: Program
    buffers: Mapping[str, torch.Tensor]
    first: int | None

    @staticmethod
    def of(objective: Objective) -> Straight | None:
        """The line of the network of an objective; None where it has none, or would not say what the network says."""
        batch = next(objective.batches())
        if not isinstance(batch.x, torch.Tensor):
            return None
        try:
            program = traced(objective.module, frozenset(objective.names))
        except NoProgram:
            return None
        found = Straight(program, objective.buffers, _first_layer(program))
        with torch.no_grad():
            expected = objective.outputs_at(objective.origin, batch)
            if not isinstance(expected, torch.Tensor):
                return None
            same = torch.allclose(
                found.outputs(dict(zip(objective.names, objective.origin, strict=True)), batch),
                expected,
                rtol=_ROUNDING,
                atol=_ROUNDING * float(expected.abs().max()),
                equal_nan=True,
            )
        return found if same else None

    @property
    def ends_in_columns(self) -> bool:
        """Whether its last layer can lay out its answers class by class."""
        return type(self.program.instructions[-1].kernel) is Linear

    @property
    def first_names(self) -> tuple[str | None, str | None]:
        """The names of the weight and the bias of the first layer."""
        kernel: Any = self.program.instructions[self.first or 0].kernel
        return kernel.weight, kernel.bias

    def outputs(
        self,
        params: Mapping[str, torch.Tensor],
        batch: Batch,
        answer: torch.Tensor | None = None,
        room: dict[int, torch.Tensor] | None = None,
        columns: bool = False,
    ) -> torch.Tensor:
        """What the network returns.

        Args:
            params: by name; those of the first layer are not read where its answer is given.
            batch: the examples.
            answer: of the first layer; it may be written over.
            room: tensors by instruction, kept by the caller for this batch, in which what is computed is put down. The
                answer to one call is written over by the next.
            columns: let each class, instead of each example, lie in one piece, where the last layer is linear.
        """
        weights = Weights({**params, **self.buffers}, {})
        memory: dict[int, Any] = {0: batch.x}
        own: set[int] = set()  # slots that hold tensors nobody else reads: they may be written over
        for place, instruction in enumerate(self.program.instructions):
            if answer is not None and self.first is not None and place <= self.first:
                memory[instruction.writes] = answer
                own.add(instruction.writes)
                continue
            values = [filled(value, memory) for value in instruction.inputs]
            if type(instruction.kernel) is Activation and instruction.reads[0] in own and self._read_once(instruction):
                memory[instruction.writes] = in_place(instruction.kernel, values[0])
                own.add(instruction.writes)
            elif room is not None and type(instruction.kernel) is Linear and values[0].ndim == 2:
                is_last = columns and instruction is self.program.instructions[-1]
                multiply = _linear_in_columns if is_last else _linear
                memory[instruction.writes] = multiply(instruction.kernel, weights, values[0], room, place)
                own.add(instruction.writes)
            else:
                memory[instruction.writes] = _value(instruction.kernel, weights, *values)
        found: torch.Tensor = memory[self.program.output]
        return found

    @cached_property
    def _readers(self) -> Counter[int]:
        return Counter(place for instruction in self.program.instructions for place in instruction.reads)

    def _read_once(self, instruction: Instruction) -> bool:
        (place,) = instruction.reads
        return self._readers[place] == 1

    def answer(self, params: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """What the first layer says of a batch with these weights."""
        assert self.first is not None
        weights, memory = Weights({**params, **self.buffers}, {}), {0: batch.x}
        for instruction in self.program.instructions[: self.first + 1]:
            values = [filled(value, memory) for value in instruction.inputs]
            memory[instruction.writes] = _value(instruction.kernel, weights, *values)
        found: torch.Tensor = memory[self.program.instructions[self.first].writes]
        return found

    def keeps_first(self, batches: Sequence[Batch], origin: Mapping[str, torch.Tensor]) -> bool:
        """Whether the answers of the first layer can be kept for these batches, and all of it moves."""
        if self.first is None or any(name is not None and name not in origin for name in self.first_names):
            return False
        one = self.answer(origin, Batch(x=batches[0].x[:1], y=None, index=batches[0].index[:1]))
        size = one.numel() * one.element_size() * sum(len(batch) for batch in batches)
        return _COPIES * size <= MOST_BYTES


def _first_layer(program: Program) -> int | None:
    """The first instruction with weights, if it is linear in them and reads nothing but what comes of the input."""
    for place, instruction in enumerate(program.instructions):
        if isinstance(instruction.kernel, (Linear, Convolution)):
            return place
        if getattr(instruction.kernel, "weight", None) is not None or isinstance(instruction.kernel, BatchNorm):
            return None
    return None


def _linear(
    kernel: Linear, weights: Weights, x: torch.Tensor, room: dict[int, torch.Tensor], place: int
) -> torch.Tensor:
    weight = weights.values[kernel.weight].t()
    if kernel.bias is None:
        room[place] = torch.mm(x, weight, out=room.get(place))
    else:
        room[place] = torch.addmm(weights.values[kernel.bias], x, weight, out=room.get(place))
    return room[place]


def _linear_in_columns(
    kernel: Linear, weights: Weights, x: torch.Tensor, room: dict[int, torch.Tensor], place: int
) -> torch.Tensor:
    weight = weights.values[kernel.weight]
    if kernel.bias is None:
        room[place] = torch.mm(weight, x.t(), out=room.get(place))
    else:
        room[place] = torch.addmm(weights.values[kernel.bias][:, None], weight, x.t(), out=room.get(place))
    return room[place].t()


@singledispatch
def _value(kernel: Kernel, weights: Weights, *inputs: Any) -> Any:
    """What a kernel says in eval mode."""
    return kernel.forward(weights, *inputs)[0]


@_value.register
def _(kernel: Dropout, weights: Weights, x: torch.Tensor) -> torch.Tensor:
    return x


@_value.register
def _(kernel: BatchNorm, weights: Weights, x: torch.Tensor) -> torch.Tensor:
    weight, bias = (None if name is None else weights.values[name] for name in (kernel.weight, kernel.bias))
    mean, var = (None if name is None else weights.values[name] for name in kernel.running[:2])
    return F.batch_norm(x, mean, var, weight, bias, training=mean is None, eps=kernel.eps)


@_value.register
def _(kernel: HalvingMaxPool, weights: Weights, x: torch.Tensor) -> torch.Tensor:
    (first, second), (third, fourth) = quarters(x)
    return torch.maximum(torch.maximum(first, second), torch.maximum(third, fourth))


@_value.register
def _(kernel: Plain, weights: Weights, *inputs: Any) -> Any:
    return kernel.function(*inputs, **kernel.keywords)
