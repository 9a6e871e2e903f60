"""What a module is made of, and what flows through its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vallis.core.catalog import unknown
from vallis.core.functional import call
from vallis.core.types import Layer

_PIECEWISE_LINEAR = (nn.ReLU, nn.LeakyReLU)
_NEUTRAL = (nn.Sequential, nn.Flatten, nn.Dropout, nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SMOOTH = (nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus)


def layers_of(module: nn.Module) -> tuple[Layer, ...]:
    """The modules that own parameters directly, in the order in which they were declared; shared ones once."""
    seen: set[int] = set()
    layers = []
    for name, part in module.named_modules():
        own = [(key, value) for key, value in part.named_parameters(recurse=False) if id(value) not in seen]
        seen.update(id(value) for _, value in own)
        if own:
            names = tuple(f"{name}.{key}" if name else key for key, _ in own)
            layers.append(Layer(name=name, kind=type(part).__name__, parameters=names))
    return tuple(layers)


def traits_of(module: nn.Module) -> frozenset[str]:
    """What can be told from the modules alone; what is hidden in a forward function is never claimed."""
    parts = list(module.modules())
    found = {"differentiable"}
    kinds: dict[str, Any] = {
        "recurrent": nn.RNNBase,
        "convolutional": _CONVOLUTIONS,
        "attention": nn.MultiheadAttention,
        "normalised": (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
    }
    found |= {trait for trait, kind in kinds.items() if any(isinstance(part, kind) for part in parts)}
    if any(part._forward_hooks or part._forward_pre_hooks for part in parts):
        return frozenset(found)
    linear = (nn.Linear, *_CONVOLUTIONS, *_NEUTRAL)
    if all(type(part) in (*linear, *_PIECEWISE_LINEAR) for part in parts):
        found.add("homogeneous")
    if all(type(part) in (*linear, *_SMOOTH) and not isinstance(part, nn.MaxPool2d) for part in parts):
        found.add("smooth")
    if all(type(part) in (*linear, *_PIECEWISE_LINEAR, *_SMOOTH) for part in parts):
        found.add("feedforward")
    return frozenset(found)


def capture(
    module: nn.Module,
    params: Mapping[str, torch.Tensor],
    buffers: Mapping[str, torch.Tensor],
    x: Any,
    layers: list[str],
) -> dict[str, tuple[Any, Any]]:
    """The positional inputs and the output of each named layer for x; a layer called twice keeps the last call.

    Raises:
        UnknownPart: there is no layer of this name.
    """
    known = dict(module.named_modules())
    for name in layers:
        if name not in known:
            raise unknown("layer", name, known)
    seen: dict[str, tuple[Any, Any]] = {}

    def keeper(name: str) -> Any:
        def keep(_: nn.Module, inputs: Any, output: Any) -> None:
            seen[name] = (inputs, output)

        return keep

    handles = [known[name].register_forward_hook(keeper(name)) for name in layers]
    try:
        call(module, params, buffers, x)
    finally:
        for handle in handles:
            handle.remove()
    return seen
