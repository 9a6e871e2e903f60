"""Chooses between several ways to compute the same numbers: the quickest of those that give the same bits.

Which kernel a library takes for K products at once hangs on shapes, layouts, the processor and the number of threads;
mostly each number is then still summed in the order of a single product, and sometimes it is not. So it is asked, not
assumed: every way is run on random numbers that lie as the real ones do, and one that differs in a single bit is never
taken. The clock only decides between ways whose bits agree, so it cannot change a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

import torch

# The last tensor is written into; the others are read. None stands for what is not there.
Way = Callable[..., None]
Layout = tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device, int] | None

ALIGNED = 64  # bytes: where torch begins a tensor of its own; elsewhere matrix products may round differently
_TIMINGS = 3
# So many numbers are compared, and so many of each place within a member: the last rows and columns of a matrix, or the
# last few of a vector, may be computed by other instructions than those before them.
_NUMBERS, _MEMBERS, _MOST_DRAWS = 2**13, 32, 32

# Of the same size; numbers of other types are not tried.
_INTEGERS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


def chosen(ways: tuple[Way, ...], *operands: torch.Tensor | None) -> Way:
    """The quickest way that has the bits of the first, for tensors that lie like these.

    Args:
        ways: the first says what is right; off the CPU, where nobody holds the clock, the second is the favourite.
        operands: what they are given. Their numbers are not looked at, and nothing is written. What repeats itself in
            memory does so along the first axis.
    """
    return _chosen(ways, tuple(_layout(operand) for operand in operands), torch.get_num_threads())


def bound(ways: tuple[Way, ...], *operands: torch.Tensor | None) -> Callable[[], None]:
    """The way that is `chosen` for these, as a call to be made whenever they hold other numbers."""
    return partial(chosen(ways, *operands), *operands)


@cache
def _chosen(ways: tuple[Way, ...], layouts: tuple[Layout, ...], threads: int) -> Way:
    if not all(layout is None or layout[2] in _INTEGERS for layout in layouts):
        return ways[0]
    right = [ways[0], *(way for way in ways[1:] if agree(ways[0], way, layouts))]
    if all(layout is None or layout[3].type == "cpu" for layout in layouts):
        operands = _drawn(layouts, torch.Generator().manual_seed(0))
        return min(right, key=lambda way: _seconds(way, operands))
    return right[min(1, len(right) - 1)]


def agree(first: Way, other: Way, layouts: tuple[Layout, ...]) -> bool:
    """Whether two ways give the same bits for random numbers in these layouts."""
    generator = torch.Generator().manual_seed(0)
    numbers = members = 0
    for _ in range(_MOST_DRAWS):
        operands = _drawn(layouts, generator)
        wanted, found = operands[-1], _empty(layouts[-1])
        assert wanted is not None and found is not None
        first(*operands)
        other(*operands[:-1], found)
        if not torch.equal(_bits(wanted), _bits(found)):
            return False
        numbers, members = numbers + wanted.numel(), members + len(wanted)
        if numbers >= _NUMBERS and members >= _MEMBERS:
            break
    return True


def _bits(numbers: torch.Tensor) -> torch.Tensor:
    """The numbers as integers, so that zeros of two signs differ."""
    return numbers.view(_INTEGERS[numbers.dtype])


def _layout(operand: torch.Tensor | None) -> Layout:
    if operand is None:
        return None
    return operand.shape, operand.stride(), operand.dtype, operand.device, operand.data_ptr() % ALIGNED


def _empty(layout: Layout) -> torch.Tensor | None:
    """Zeros that lie as the layout says, from its distance to an aligned address on."""
    if layout is None:
        return None
    shape, strides, dtype, device, beyond = layout
    reach = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size > 1)
    step = ALIGNED // dtype.itemsize
    held = torch.zeros(reach + 2 * step, dtype=dtype, device=device)
    start = (beyond - held.data_ptr()) % ALIGNED // dtype.itemsize
    return held.as_strided(shape, strides, start)


def _drawn(layouts: tuple[Layout, ...], generator: torch.Generator) -> list[torch.Tensor | None]:
    operands = []
    for layout in layouts:
        operand = _empty(layout)
        if operand is not None:
            numbers = torch.randn(operand.shape, generator=generator, dtype=operand.dtype).to(operand.device)
            if 0 in operand.stride():  # one tensor for all: what is written last stands
                numbers = numbers[:1].expand(operand.shape)
                operand.select(0, 0).copy_(numbers[0])
            else:
                operand.copy_(numbers)
        operands.append(operand)
    return operands


def _seconds(way: Way, operands: list[torch.Tensor | None]) -> float:
    spent = []
    for _ in range(_TIMINGS):
        started = time.perf_counter()
        way(*operands)
        spent.append(time.perf_counter() - started)
    return min(spent)
