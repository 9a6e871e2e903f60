"""Convolutions whose second derivatives cost what they must.

A convolution is linear in its input and in its weight, so each derivative of it is one of three maps: the convolution,
its transpose in the input and its transpose in the weight. Torch differentiates the latter two by other, slower ways
on the CPU; here each is differentiated by the other two. Measured on 1,797 digits and three small layers, a kept
Hessian product takes 0.87 of the time, a Gauss-Newton product 0.65.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

Tensors = tuple[torch.Tensor | None, ...]

_NUM_AXES = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class Geometry(NamedTuple):
    """What a convolution is besides its input and weight.

    Attributes:
        twice: whether derivatives are to be differentiated by input and weight. Without it they can be by the slopes
            that they pull back alone, and no work is spent on what nobody asks for.
    """

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int
    twice: bool = True


class OwnConvolutions(TorchFunctionMode):
    """While it is entered, convolutions on the CPU are differentiated by convolutions.

    Args:
        twice: see `Geometry`.
    """

    def __init__(self, *, twice: bool = True) -> None:
        super().__init__()
        self._twice = twice

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        num_axes = _NUM_AXES.get(func)
        if num_axes is not None:
            replaced = _convolved(num_axes, self._twice, *args, **(kwargs or {}))
            if replaced is not None:
                return replaced
        return func(*args, **(kwargs or {}))


def _convolved(
    num_axes: int,
    twice: bool,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> torch.Tensor | None:
    """The convolution; None where torch's own has to do it."""
    usual = input.ndim == num_axes + 2 and input.device.type == "cpu" and input.is_floating_point()
    if isinstance(padding, str) or not usual or input.dtype != weight.dtype:
        return None
    if num_axes == 2:
        input = _channels_last(input)
    geometry = Geometry(_each(stride, num_axes), _each(padding, num_axes), _each(dilation, num_axes), groups, twice)
    outputs: torch.Tensor = _convolution(input, weight, geometry)
    return outputs if bias is None else outputs + bias.view(-1, *[1] * num_axes)


def _channels_last(input: torch.Tensor) -> torch.Tensor:
    """The same in the layout that is faster here, most of all for what is pulled back through a stride."""
    try:
        return input.contiguous(memory_format=torch.channels_last)
    except RuntimeError:  # a function transform inside of the model knows of no layouts
        return input


def _each(value: int | Sequence[int], num_axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * num_axes if len(values) == 1 else values


class _Convolution(torch.autograd.Function):
    """``(x, w) -> x * w``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, w: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        stride, padding, dilation, groups, _ = geometry
        zeros = [0] * len(stride)
        found: torch.Tensor = torch.ops.aten.convolution(x, w, None, stride, padding, dilation, False, zeros, groups)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        x, w, ctx.geometry = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Tensors:
        x, w = ctx.saved_tensors
        if not ctx.geometry.twice:
            x, w = x.detach(), w.detach()
        to_x, to_w, _ = ctx.needs_input_grad
        return (
            _to_input(g, w, x.detach(), ctx.geometry) if to_x else None,
            _to_weight(g, x, w.detach(), ctx.geometry) if to_w else None,
            None,
        )


class _ToInput(torch.autograd.Function):
    """``(g, w) -> `` the x for which ``x · x' = g · (x' * w)``; `like` says how large x is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(g: torch.Tensor, w: torch.Tensor, like: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        return _transposed(g, like, w, geometry, [True, False, False])[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        g, w, _, ctx.geometry = inputs
        ctx.save_for_backward(g, w)

    @staticmethod
    def backward(ctx: Any, x: torch.Tensor) -> Tensors:
        g, w = ctx.saved_tensors
        to_g, to_w, _, _ = ctx.needs_input_grad
        return (
            _convolution(x, w, ctx.geometry) if to_g else None,
            _to_weight(g, x, w.detach(), ctx.geometry) if to_w else None,
            None,
            None,
        )


class _ToWeight(torch.autograd.Function):
    """``(g, x) -> `` the w for which ``w · w' = g · (x * w')``; `like` says how large w is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(g: torch.Tensor, x: torch.Tensor, like: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        return _transposed(g, x, like, geometry, [False, True, False])[1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        g, x, _, ctx.geometry = inputs
        ctx.save_for_backward(g, x)

    @staticmethod
    def backward(ctx: Any, w: torch.Tensor) -> Tensors:
        g, x = ctx.saved_tensors
        to_g, to_x, _, _ = ctx.needs_input_grad
        return (
            _convolution(x, w, ctx.geometry) if to_g else None,
            _to_input(g, w, x.detach(), ctx.geometry) if to_x else None,
            None,
            None,
        )


def _transposed(
    g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, geometry: Geometry, which: list[bool]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stride, padding, dilation, groups, _ = geometry
    zeros = [0] * len(stride)
    found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = torch.ops.aten.convolution_backward(
        g, x, w, None, stride, padding, dilation, False, zeros, groups, which
    )
    return found


for _kind in (_Convolution, _ToInput, _ToWeight):
    # torch asks for it at every call, and to make it anew takes longer than a small convolution.
    vars(_kind.forward)["__signature__"] = inspect.signature(_kind.forward)

# Torch leaves `apply` without types.
_convolution: Any = _Convolution.apply
_to_input: Any = _ToInput.apply
_to_weight: Any = _ToWeight.apply
