"""What linear layers need of K pairs of matrices, in one call where that has the bits of K calls.

The first of each group of ways goes pair by pair, with the kernels that autograd calls for one network: it says what is
right (see `vallis.numerics.same_bits`). Each way is given the tensors that stand beside its group below, K members in
all, and writes into the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vallis.numerics.same_bits import Way


def _affine_each(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    for rows, matrix, shift, place in _each(x, weight, bias, out):
        torch.addmm(shift, rows, matrix.t(), out=place)


def _affine_batched(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2), out=out)


def _affine_turned(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    # For batches that are smaller than the layer is wide this is the better side to begin from.
    out.copy_(torch.baddbmm(bias.unsqueeze(2), weight, x.transpose(1, 2)).transpose(1, 2))


def _linear_each(x: torch.Tensor, weight: torch.Tensor, bias: None, out: torch.Tensor) -> None:
    for rows, matrix, place in _each(x, weight, out):
        torch.mm(rows, matrix.t(), out=place)


def _linear_batched(x: torch.Tensor, weight: torch.Tensor, bias: None, out: torch.Tensor) -> None:
    torch.bmm(x, weight.transpose(1, 2), out=out)


def _linear_turned(x: torch.Tensor, weight: torch.Tensor, bias: None, out: torch.Tensor) -> None:
    out.copy_(torch.bmm(weight, x.transpose(1, 2)).transpose(1, 2))


def _weight_each(slope: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> None:
    for part, rows, place in _each(slope, x, out):
        torch.mm(part.t(), rows, out=place)


def _weight_batched(slope: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> None:
    torch.bmm(slope.transpose(1, 2), x, out=out)


def _input_each(slope: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    for part, matrix, place in _each(slope, weight, out):
        torch.mm(part, matrix, out=place)


def _input_batched(slope: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    torch.bmm(slope, weight, out=out)


def _turned_input_each(slope: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    for part, matrix, place in _each(slope, weight, out):
        torch.mm(matrix.t(), part.t(), out=place.t())


def _turned_input_batched(slope: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    torch.bmm(weight.transpose(1, 2), slope.transpose(1, 2), out=out.transpose(1, 2))


def _bias_each(slope: torch.Tensor, out: torch.Tensor) -> None:
    for part, place in _each(slope, out):
        torch.sum(part, 0, out=place)


def _bias_batched(slope: torch.Tensor, out: torch.Tensor) -> None:
    torch.sum(slope, 1, out=out)


def _each(*stacks: torch.Tensor) -> Sequence[tuple[torch.Tensor, ...]]:
    return list(zip(*(stack.unbind() for stack in stacks), strict=True))


# x ``(K, B, I)``, W ``(K, O, I)``, b ``(K, O)``, then ``x_k W_k' + b_k`` ``(K, B, O)``.
AFFINE = (_affine_each, _affine_batched, _affine_turned)
# The same with None for b.
LINEAR = (_linear_each, _linear_batched, _linear_turned)
# Slopes d ``(K, B, O)``, x ``(K, B, I)``, then ``d_k' x_k`` ``(K, O, I)``.
WEIGHT_SLOPES = (_weight_each, _weight_batched)
# Slopes d ``(K, B, O)``, then their sums over the examples ``(K, O)``.
BIAS_SLOPES = (_bias_each, _bias_batched)
# Slopes d ``(K, B, O)``, W ``(K, O, I)``, then ``d_k W_k`` ``(K, B, I)``.
INPUT_SLOPES = (_input_each, _input_batched)
_TURNED_INPUT_SLOPES = (_turned_input_each, _turned_input_batched)


def input_slopes_of(rows: Sequence[int]) -> tuple[Way, ...]:
    """The ways to the slopes of inputs of this shape; torch multiplies the other way round for one number alone."""
    return _TURNED_INPUT_SLOPES if tuple(rows) == (1, 1) else INPUT_SLOPES
