"""Programs of networks: traced and proved once for all that are nothing but torch's own layers, set up alike.

What such a network does hangs on its layers and their settings alone, so the second of thirty-two needs no proof of its
own. A network with a forward function of its own, or with anything in it that is no plain setting, is proved itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import nn

from vallis.numerics.program import Program
from vallis.numerics.program_graph import NoProgram
from vallis.numerics.program_proof import is_proved
from vallis.numerics.program_tracing import traced

_KNOWN: OrderedDict[Hashable, Program | None] = OrderedDict()
_MOST_KNOWN = 64
_INTERNAL = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, float, str, type(None))


def program_of(module: nn.Module, trained: Sequence[str], examples: Sequence[torch.Tensor]) -> Program | None:
    """The program of a module, proved to have the bits of autograd; None where autograd must do it.

    Args:
        module: in training mode; it stays as it is.
        trained: the names of its trainable parameters.
        examples: a few of each kind of input that it will be given.
    """
    kinds = {(x.shape, x.stride(), x.dtype): x for x in examples}
    plan = plan_of(module)
    if plan is None:
        return _proved(module, trained, list(kinds.values()))
    key = (plan, tuple(trained), tuple(kinds), _circumstances())
    if key not in _KNOWN:
        _KNOWN[key] = _proved(module, trained, list(kinds.values()))
    _KNOWN.move_to_end(key)
    while len(_KNOWN) > _MOST_KNOWN:
        _KNOWN.popitem(last=False)
    return _KNOWN[key]


def _proved(module: nn.Module, trained: Sequence[str], examples: Sequence[torch.Tensor]) -> Program | None:
    try:
        program = traced(module, frozenset(trained))
    except NoProgram:
        return None
    return program if all(is_proved(program, module, trained, x) for x in examples) else None


def plan_of(module: nn.Module) -> Hashable | None:
    """Everything that a network of torch's own layers does hangs on, but for the numbers in it; None for any other."""
    if nn.modules.module._has_any_global_hook():
        return None
    numbers: dict[int, int] = {}  # of parameters and buffers, so that a tied one is known again
    parts = [_part(name, part, numbers) for name, part in module.named_modules(remove_duplicate=False)]
    return None if None in parts else tuple(parts)


def _part(name: str, part: nn.Module, numbers: dict[int, int]) -> Hashable | None:
    kind, held = type(part), vars(part)
    if not kind.__module__.startswith("torch.nn.modules."):
        return None
    if any(value for key, value in held.items() if key in _INTERNAL and key.endswith("hooks")):
        return None
    settings = {key: value for key, value in held.items() if key not in _INTERNAL or key == "training"}
    if not all(map(_is_plain, settings.values())):
        return None
    tensors = [(key, value) for key, value in (*part._parameters.items(), *part._buffers.items()) if value is not None]
    if any(type(value) not in (nn.Parameter, torch.Tensor) or value._backward_hooks for _, value in tensors):
        return None
    layouts = tuple(
        (key, numbers.setdefault(id(value), len(numbers)), value.shape, value.stride(), value.dtype, value.device.type)
        for key, value in tensors
    )
    # (A class whose methods somebody replaced is another one.)
    return name, kind, kind.forward, kind.__call__, repr(sorted(settings.items())), layouts


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple, torch.Size):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def _circumstances() -> Hashable:
    """What torch's choice of kernels hangs on beside the network."""
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch._C._get_mkldnn_enabled(),
        torch.is_autocast_enabled("cpu"),
    )
