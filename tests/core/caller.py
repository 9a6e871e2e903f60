"""What belongs to the caller, photographed: whoever looks twice sees whether anything moved."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_forward_hooks_with_kwargs",
    "_load_state_dict_post_hooks",
)


def of_tensor(tensor: torch.Tensor | None) -> Any:
    """Identity, version and bytes: a tensor that was written to and put back has another version."""
    if tensor is None or tensor.is_meta or isinstance(tensor, nn.parameter.UninitializedParameter):
        return id(tensor)
    version = None if tensor.is_inference() else tensor._version
    values = tensor.detach().cpu().clone().contiguous().reshape(-1).view(torch.uint8).tolist() if tensor.numel() else []
    grad = of_tensor(tensor.grad) if tensor.is_leaf else None
    return id(tensor), version, tensor.dtype, tuple(tensor.shape), tensor.requires_grad, values, grad


def of_module(module: nn.Module) -> Any:
    """Everything a module is: modes, parameters, gradients, buffers, hooks and plain attributes."""
    seen = []
    for name, part in module.named_modules():
        own = {
            "training": part.training,
            "parameters": {key: of_tensor(value) for key, value in part._parameters.items()},
            "buffers": {key: of_tensor(value) for key, value in part._buffers.items()},
            "non_persistent": sorted(part._non_persistent_buffers_set),
            "hooks": {key: (id(getattr(part, key)), dict(getattr(part, key))) for key in _HOOKS},
            "attributes": {key: id(value) for key, value in vars(part).items()},
        }
        seen.append((name, id(part), own))
    return seen


def of_world() -> Any:
    """The random generators and every switch of torch that a measurement might turn."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (kind, keys.tolist(), *rest),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "dtype": torch.get_default_dtype(),
        "fastpath": torch.backends.mha.get_fastpath_enabled(),
        "attention": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            torch.backends.cuda.cudnn_sdp_enabled(),
        ),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "threads": torch.get_num_threads(),
    }


@contextmanager
def untouched(module: nn.Module | None = None, *tensors: torch.Tensor) -> Iterator[None]:
    """Whatever happens inside, also an exception: module, tensors and global state leave as they came."""
    before = (of_module(module) if module is not None else None, [of_tensor(t) for t in tensors], of_world())
    try:
        yield
    finally:
        after = (of_module(module) if module is not None else None, [of_tensor(t) for t in tensors], of_world())
        assert after[0] == before[0], "the module was touched"
        assert after[1] == before[1], "the data were touched"
        assert after[2] == before[2], "global state was touched"


def is_sentence(message: str) -> bool:
    """One line that says what was required, what came, and after a colon or semicolon what to do."""
    said = re.split(r"[:;] ", message)
    required = "required" in said[0] or "must" in said[0]
    return required and len(said) > 1 and len(said[-1].split()) + len(said[1].split()) > 3 and "\n" not in message
