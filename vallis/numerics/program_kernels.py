"""What a straight-line program is made of: for each layer torch's own forward kernel and the backward kernel beside it.

They are the kernels that autograd would call, called with the same arguments in the same order, so that slopes have
the same bits; what is saved is autograd's bookkeeping, which for small networks is most of the time. Memory layouts are
those that autograd sees, because matrix products round differently in another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F

aten = torch.ops.aten


@dataclass(eq=False)
class Weights:
    """What a run of a program reads and writes.

    Attributes:
        values: parameters and buffers by name; running statistics are updated in place.
        slopes: where the gradient of each trainable parameter is put, by name: a tensor of the parameter's shape.
        generator: draws the masks of dropout.
    """

    values: Mapping[str, torch.Tensor]
    slopes: Mapping[str, torch.Tensor]
    generator: torch.Generator | None = None

    def put(self, name: str, slope: torch.Tensor) -> None:
        """Takes the gradient of a parameter, whatever tensor it came in."""
        self.slopes[name].copy_(slope)


class Kernel(Protocol):
    """One instruction: a function of tensors and its derivative."""

    def forward(self, weights: Weights, *inputs: Any) -> tuple[Any, Any]:
        """The output, and what `backward` needs."""
        ...

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        """Puts the gradients of the parameters into `weights`; returns those of the wanted inputs."""
        ...


@dataclass(frozen=True)
class Linear:
    """``x W' + b`` for ``(B, ..., inputs)``; more than two axes are made two, as torch does."""

    weight: str
    bias: str | None
    trained: frozenset[str]

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        weight, rows = weights.values[self.weight].t(), x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        out = torch.mm(rows, weight) if self.bias is None else torch.addmm(weights.values[self.bias], rows, weight)
        return out if x.ndim == 2 else out.view(*x.shape[:-1], -1), (rows, x.shape)

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        rows, shape = kept
        slope = slope.reshape(-1, slope.shape[-1])
        if self.weight in self.trained:
            torch.mm(slope.t(), rows, out=weights.slopes[self.weight])
        if self.bias in self.trained:
            torch.sum(slope, 0, out=weights.slopes[self.bias])
        if not wanted[0]:
            return (None,)
        weight = weights.values[self.weight]
        found = torch.mm(weight.t(), slope.t()).t() if is_turned(rows) else torch.mm(slope, weight)
        return (found.view(shape),)


def is_turned(rows: torch.Tensor) -> bool:
    """Whether a matrix is to torch one that was turned over: then it sums the slopes of a product the other way round.

    One number alone is such a matrix.
    """
    return rows.stride() == (1, rows.shape[0])


@dataclass(frozen=True)
class Convolution:
    """A convolution of 1, 2 or 3 axes, padded by zeros, as many on both sides."""

    weight: str
    bias: str | None
    trained: frozenset[str]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        values = weights.values
        bias = None if self.bias is None else values[self.bias]
        none = [0] * len(self.stride)
        out = torch.convolution(
            x, values[self.weight], bias, self.stride, self.padding, self.dilation, False, none, self.groups
        )
        return out, x

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        weight = weights.values[self.weight]
        sizes = None if self.bias is None else [weight.shape[0]]
        mask = [wanted[0], self.weight in self.trained, self.bias in self.trained]
        none = [0] * len(self.stride)
        found = aten.convolution_backward(
            slope, kept, weight, sizes, self.stride, self.padding, self.dilation, False, none, self.groups, mask
        )
        for name, given, gradient in zip((self.weight, self.bias), mask[1:], found[1:], strict=True):
            if given and name is not None:
                weights.put(name, gradient)
        return (found[0] if wanted[0] else None,)


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation by the statistics of the batch, keeping running ones."""

    weight: str | None
    bias: str | None
    trained: frozenset[str]
    running: tuple[str | None, str | None, str | None]
    momentum: float | None
    eps: float

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        mean, var, count = (None if name is None else weights.values[name] for name in self.running)
        momentum = self.momentum
        if count is not None:
            count.add_(1)
            momentum = 1.0 / float(count) if momentum is None else momentum
        weight, bias = (None if name is None else weights.values[name] for name in (self.weight, self.bias))
        out, seen, scale = torch.native_batch_norm(x, weight, bias, mean, var, True, momentum or 0.0, self.eps)
        return out, (x, mean, var, seen, scale)

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        x, mean, var, seen, scale = kept
        weight = None if self.weight is None else weights.values[self.weight]
        mask = [wanted[0], self.weight in self.trained, self.bias in self.trained]
        found = aten.native_batch_norm_backward(slope, x, weight, mean, var, seen, scale, True, self.eps, mask)
        return _normalised(weights, (self.weight, self.bias), mask, found)


@dataclass(frozen=True)
class LayerNorm:
    """Normalisation of each example over its last axes."""

    weight: str | None
    bias: str | None
    trained: frozenset[str]
    shape: list[int]
    eps: float

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        weight, bias = (None if name is None else weights.values[name] for name in (self.weight, self.bias))
        out, mean, scale = torch.native_layer_norm(x, self.shape, weight, bias, self.eps)
        return out, (x, mean, scale)

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        x, mean, scale = kept
        weight, bias = (None if name is None else weights.values[name] for name in (self.weight, self.bias))
        mask = [wanted[0], self.weight in self.trained, self.bias in self.trained]
        found = aten.native_layer_norm_backward(slope, x, self.shape, mean, scale, weight, bias, mask)
        return _normalised(weights, (self.weight, self.bias), mask, found)


@dataclass(frozen=True)
class GroupNorm:
    """Normalisation of each example over groups of its channels."""

    weight: str | None
    bias: str | None
    trained: frozenset[str]
    groups: int
    eps: float

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        weight, bias = (None if name is None else weights.values[name] for name in (self.weight, self.bias))
        x = x.contiguous()
        sizes = (x.shape[0], x.shape[1], x[0, 0].numel(), self.groups)
        out, mean, scale = torch.native_group_norm(x, weight, bias, *sizes, self.eps)
        return out, (x, mean, scale, sizes)

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        x, mean, scale, sizes = kept
        weight = None if self.weight is None else weights.values[self.weight]
        mask = [wanted[0], self.weight in self.trained, self.bias in self.trained]
        found = aten.native_group_norm_backward(slope.contiguous(), x, mean, scale, weight, *sizes, mask)
        return _normalised(weights, (self.weight, self.bias), mask, found)


@dataclass(frozen=True)
class Dropout:
    """Zeroes values with probability p and scales the others up."""

    p: float

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        mask = torch.empty_like(x).bernoulli_(1 - self.p, generator=weights.generator).div_(1 - self.p)
        return x * mask, mask

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        return (slope * kept,)


@dataclass(frozen=True)
class Activation:
    """A function of each value, with the kernel of its derivative.

    Attributes:
        value: from x.
        slope: from the slope of the output, x and the output.
        exact: whether each value is rounded alike wherever it stands. Torch may take the exponentials of the last few
            values of a tensor by another routine than those before them.
    """

    value: Callable[[torch.Tensor], torch.Tensor]
    slope: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    exact: bool = False

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        out = self.value(x)
        return out, (x, out)

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        return (self.slope(slope, *kept),)


@dataclass(frozen=True)
class Flatten:
    """All axes after that of the examples made one."""

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        return x.flatten(1), x.shape

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        return (slope.reshape(kept),)


@dataclass(frozen=True)
class HalvingMaxPool:
    """The largest of every 2x2 values of images; sides that are odd lose a line, as in torch.

    torch's own kernel takes them one by one and is four to eight times slower. A maximum rounds nothing, and of equal
    values the first, row by row, gets the slope, as there.
    """

    def forward(self, weights: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        (first, second), (third, fourth) = quarters(x)
        right, lower_right = second > first, fourth > third
        top, bottom = torch.maximum(first, second), torch.maximum(third, fourth)
        low = bottom > top
        return torch.maximum(top, bottom), (x, right, lower_right, low)

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        x, right, lower_right, low = kept
        width = x.shape[3]
        rows, columns = (torch.arange(0, 2 * size, 2, device=x.device, dtype=torch.int32) for size in slope.shape[2:])
        # (Short integers as long as may be: the kernel wants long ones, and they take most of the time.)
        places = low.to(torch.int32).mul_(width).add_((right ^ (low & (right ^ lower_right))).to(torch.int32))
        places = places.add_(rows[:, None] * width + columns).long()
        two, none, one = [2, 2], [0, 0], [1, 1]
        return (aten.max_pool2d_with_indices_backward(slope, x, two, two, none, one, False, places),)


def quarters(x: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Views of the four values of each 2x2 field of ``(N, C, H, W)``, row by row."""
    height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    upper, lower = x[:, :, 0:height:2, :width], x[:, :, 1:height:2, :width]
    return (upper[..., ::2], upper[..., 1::2]), (lower[..., ::2], lower[..., 1::2])


@dataclass(frozen=True)
class Plain:
    """Any function without weights and without chance, differentiated by autograd on its own.

    Attributes:
        function: takes the inputs in their places.
        keywords: and these.
    """

    function: Callable[..., Any]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def forward(self, weights: Weights, *inputs: Any) -> tuple[Any, Any]:
        with torch.enable_grad():
            leaves = [_leaf(value) for value in inputs]
            out = self.function(*leaves, **self.keywords)
        if not isinstance(out, torch.Tensor):
            return out, None
        return out.detach(), (leaves, out)

    def backward(
        self, weights: Weights, kept: Any, slope: torch.Tensor, wanted: tuple[bool, ...]
    ) -> tuple[torch.Tensor | None, ...]:
        leaves, out = kept
        tensors = [leaf for leaf, want in zip(_tensors(leaves), wanted, strict=True) if want]
        found = iter(torch.autograd.grad(out, tensors, slope, allow_unused=True))
        return tuple(next(found) if want else None for want in wanted)


def _leaf(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().requires_grad_(value.is_floating_point())
    if type(value) in (list, tuple):
        return type(value)(_leaf(part) for part in value)
    return value


def _tensors(leaves: Any) -> list[torch.Tensor]:
    """The tensors in the order in which a program counts its inputs."""
    if isinstance(leaves, torch.Tensor):
        return [leaves]
    return [leaf for part in leaves for leaf in _tensors(part)] if type(leaves) in (list, tuple) else []


def _normalised(
    weights: Weights, names: tuple[str | None, str | None], mask: list[bool], found: Any
) -> tuple[torch.Tensor | None, ...]:
    for name, given, gradient in zip(names, mask[1:], found[1:], strict=True):
        if given and name is not None:
            weights.put(name, gradient)
    return (found[0] if mask[0] else None,)


def activation(module: nn.Module) -> Activation | None:
    """The kernels of an activation, the same for every module like this; None for one that is none of those known."""
    known = _ACTIVATIONS.get(type(module))
    if known is not None:
        return known
    if type(module) is nn.GELU:
        return _gelu(module.approximate)
    return _leaky_relu(module.negative_slope) if type(module) is nn.LeakyReLU else None


_ACTIVATIONS: Mapping[type[nn.Module], Activation] = {
    nn.ReLU: Activation(torch.relu, lambda g, x, out: aten.threshold_backward(g, out, 0), exact=True),
    nn.Tanh: Activation(torch.tanh, lambda g, x, out: aten.tanh_backward(g, out)),
    nn.Sigmoid: Activation(torch.sigmoid, lambda g, x, out: aten.sigmoid_backward(g, out)),
    nn.SiLU: Activation(F.silu, lambda g, x, out: aten.silu_backward(g, x)),
}


@cache
def _gelu(how: str) -> Activation:
    return Activation(lambda x: F.gelu(x, approximate=how), lambda g, x, out: aten.gelu_backward(g, x, approximate=how))


@cache
def _leaky_relu(below: float) -> Activation:
    return Activation(
        lambda x: F.leaky_relu(x, below), lambda g, x, out: aten.leaky_relu_backward(g, x, below, False), exact=True
    )


def in_place(kernel: Activation, x: torch.Tensor) -> torch.Tensor:
    """The value of an activation, written over its argument where torch has a kernel for that."""
    function = _IN_PLACE.get(kernel.value)
    return kernel.value(x) if function is None else function(x)


_IN_PLACE: Mapping[Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]] = {
    torch.relu: torch.relu_,
    torch.tanh: torch.tanh_,
    torch.sigmoid: torch.sigmoid_,
}
