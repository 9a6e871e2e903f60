"""Calls a network at any point of weight space without touching the network.

Everything is evaluated in eval mode, on the math path of attention (fused kernels have no second derivative, and round
differently), with the caller's global state put back afterwards.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


def call(module: torch.nn.Module, params: Mapping[str, Any], buffers: Mapping[str, Any], x: Any) -> Any:
    """What the module returns for x with these values in place of its own.

    Args:
        module: an owned template (`Net.module`), in the mode it is to be evaluated in.
        params: the trainable parameters by name.
        buffers: running statistics and frozen parameters by name.
        x: see `arguments`.
    """
    args, kwargs = arguments(module, x)
    # Torch's own way with shared tensors leaves a module that stands in two places with the values of the call.
    values = _wherever_shared(module, {**params, **buffers})
    with twice_differentiable(module):
        return torch.func.functional_call(module, values, args, kwargs, tie_weights=False)


def arguments(module: torch.nn.Module, x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How x is handed to the module: a dict as keywords and a tuple as positions where its forward takes them so.

    Anything else, and a dict or tuple that does not fit the signature, is the one argument.
    """
    if isinstance(x, Mapping) and all(isinstance(key, str) for key in x) and _binds(module, (), dict(x)):
        return (), dict(x)
    if isinstance(x, tuple) and not hasattr(x, "_fields") and _binds(module, x, {}):
        return x, {}
    if isinstance(x, list) and not _binds(module, (x,), {}) and _binds(module, tuple(x), {}):
        return tuple(x), {}  # default_collate turns a tuple of inputs into a list
    return (x,), {}


@contextmanager
def twice_differentiable(module: torch.nn.Module) -> Iterator[None]:
    """Selects kernels that can be differentiated twice, and puts the caller's choice back."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_without_encoder_fastpath())
        stack.enter_context(full_precision())
        if any(isinstance(part, torch.nn.RNNBase) for part in module.modules()):
            # cuDNN's recurrent kernels cannot be differentiated twice, nor at all in eval mode.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if any(_normalises_weights(part) for part in module.modules()):
            stack.enter_context(_OwnWeightNorm())
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Switches the caller's autocast off and back on."""
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def differentiating() -> Iterator[None]:
    """Records gradients in full precision, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad(), full_precision():
        yield


@contextmanager
def preserving_global_state() -> Iterator[None]:
    """Puts the global random generators of torch, numpy and Python, and the gradient mode, back as they were."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with preserving_python_generators(), torch.random.fork_rng(devices=devices), differentiating():
        yield


@contextmanager
def preserving_python_generators() -> Iterator[None]:
    """Puts the global random generators of numpy and Python back as they were."""
    import random

    import numpy as np

    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextmanager
def _without_encoder_fastpath() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _wherever_shared(module: torch.nn.Module, values: dict[str, Any]) -> dict[str, Any]:
    """The values also under the other names of tensors that several modules hold, each module by its first name."""
    firsts: dict[int, str] = {}
    for prefix, part in module.named_modules():
        for name, held in (*part._parameters.items(), *part._buffers.items()):
            full = f"{prefix}.{name}" if prefix else name
            first = full if held is None else firsts.setdefault(id(held), full)
            if first != full and first in values:
                values.setdefault(full, values[first])
    return values


def _binds(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


class _OwnWeightNorm(TorchFunctionMode):
    """Weight normalisation from plain operations: the second derivative of torch's fused one is wrong, not missing."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _normalises_weights(part: torch.nn.Module) -> bool:
    """Whether this is the parametrisation `weight_norm`, or a module under the older hook of that name."""
    hooks = part._forward_pre_hooks.values()
    return any(type(held).__name__.lstrip("_") == "WeightNorm" for held in (part, *hooks))
