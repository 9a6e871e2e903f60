"""A network in training as a straight line of torch's own kernels, forward and back, without autograd's bookkeeping.

For a network of a few layers most of a step of training is bookkeeping: modules that call modules, nodes of a graph
that is thrown away. A program is traced once, and each run calls the kernels one after the other. Its losses and
slopes have the same bits as those of autograd, because the kernels, their arguments and their order are the same.
What cannot be told to be such a line (hooks, chance other than dropout, layers without an entry here) is refused, and
is differentiated by autograd as ever. What a graph does not show is found out by a run of both (`program_proof`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vallis.numerics.program_kernels import Kernel, Weights


@dataclass(frozen=True)
class Slot:
    """A place in the memory of a run."""

    number: int


@dataclass(frozen=True)
class Instruction:
    """One kernel.

    Attributes:
        inputs: its arguments; slots stand for what was computed before.
        reads: the slots among them, in order.
        writes: the slot of its output.
        wanted: for each of `reads`, whether a trainable parameter lies before it.
        moves: whether one lies before its output, or in it.
    """

    kernel: Kernel
    inputs: tuple[Any, ...]
    reads: tuple[int, ...]
    writes: int
    wanted: tuple[bool, ...]
    moves: bool


@dataclass(frozen=True)
class Tape:
    """What a forward run keeps for the way back, one entry an instruction."""

    kept: tuple[Any, ...]


@dataclass(frozen=True)
class Program:
    """The instructions of a network in training mode, from the slot 0 of its input to that of its output.

    Attributes:
        signature: the same for networks of one architecture whose parameters have the same names and are trained alike.
    """

    instructions: tuple[Instruction, ...]
    output: int
    signature: str

    def has(self, kind: type[Kernel]) -> bool:
        """Whether one of the kernels is of this kind."""
        return any(isinstance(instruction.kernel, kind) for instruction in self.instructions)

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Tape]:
        """The output, and what `backward` needs; it must be called without recording gradients."""
        memory, kept = {0: x}, []
        for instruction in self.instructions:
            inputs = [filled(value, memory) for value in instruction.inputs]
            memory[instruction.writes], held = instruction.kernel.forward(weights, *inputs)
            kept.append(held)
        return memory[self.output], Tape(tuple(kept))

    def backward(self, weights: Weights, tape: Tape, slope: torch.Tensor) -> None:
        """Puts the gradient of every trainable parameter into ``weights.slopes``.

        Args:
            weights: as in the forward run.
            tape: from it.
            slope: the derivative with respect to the output, of its shape.
        """
        slopes = {self.output: slope}
        for instruction, kept in zip(reversed(self.instructions), reversed(tape.kept), strict=True):
            arrived = slopes.pop(instruction.writes, None)
            if arrived is None or not instruction.moves:
                continue
            found = instruction.kernel.backward(weights, kept, arrived, instruction.wanted)
            for place, gradient in zip(instruction.reads, found, strict=True):
                if gradient is not None:
                    slopes[place] = slopes[place] + gradient if place in slopes else gradient


def filled(value: Any, memory: Mapping[int, Any]) -> Any:
    """An argument with what its slots hold in their places."""
    if isinstance(value, Slot):
        return memory[value.number]
    if type(value) in (list, tuple):
        return type(value)(filled(part, memory) for part in value)
    return value
