"""The graph of a forward function, read with `torch.fx`, unless the function has a memory or draws in Python.

What Python draws, counts or remembers while it calls torch's functions would be frozen in a graph: a layer that is
skipped once in ten calls would never be skipped.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from vallis.core import tree
from vallis.core.functional import preserving_global_state


class NoProgram(Exception):
    """The network is not a straight line of known kernels; the message says why."""


def graph_of(module: nn.Module) -> fx.Graph:
    """The graph of a module's forward function.

    Raises:
        NoProgram: there is none, or another one at another call.
    """
    layers = _in_line("", module)
    if layers is not None:
        graph = fx.Graph()
        value = graph.placeholder("x")
        for name in layers:
            value = graph.call_module(name, (value,))
        graph.output(value)
        return graph
    module = copy.deepcopy(module)
    before = _memory(module)
    with preserving_global_state():
        graphs = [_traced(module, seed) for seed in (1, 2)]
    if len({str([node.format_node() for node in graph.nodes]) for graph in graphs}) > 1:
        raise NoProgram("its forward function is another one at every call")
    if _memory(module) != before:
        raise NoProgram("its forward function changes what the module holds")
    return graphs[0]


def _traced(module: nn.Module, seed: int) -> fx.Graph:
    """A graph that was read without a random number."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - it is the generator that a forward function would draw from
    torch.default_generator.manual_seed(seed)
    before = _drawn()
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:
        raise NoProgram(f"its forward function cannot be traced: {error}") from error
    if _drawn() != before:
        raise NoProgram("its forward function is another one at every call: it draws random numbers")
    return graph


def _drawn() -> tuple[str, ...]:
    """Where the global generators stand."""
    numpy_state = repr(np.random.get_state())  # noqa: NPY002
    return numpy_state, repr(random.getstate()), tree.fingerprint(torch.default_generator.get_state())


def _in_line(name: str, module: nn.Module) -> list[str] | None:
    """The layers of what is nothing but layers in a row, by name: there is no forward function to trace."""
    if type(module) is not nn.Sequential:
        return [name] if fx.Tracer().is_leaf_module(module, name) else None
    parts = [_in_line(f"{name}.{key}" if name else key, part) for key, part in module.named_children()]
    # (A module that stands twice in a row is named once.)
    if len(parts) != len(module) or not parts or None in parts:
        return None
    return [layer for part in parts if part is not None for layer in part]


# How deep objects within objects are looked into.
_DEPTH = 4
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)


def _memory(module: nn.Module) -> list[tuple[str, str]]:
    """Everything that a module holds, as text, but for its parameters."""
    held = [(name, tree.fingerprint(value)) for name, value in module.named_buffers()]
    internal = vars(nn.Module()).keys()
    for name, part in module.named_modules():
        held += [(f"{name}.{key}", _said(value, _DEPTH)) for key, value in vars(part).items() if key not in internal]
    return held


def _said(value: Any, depth: int) -> str:
    if isinstance(value, _GENERATORS):
        return _state_of(value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return tree.fingerprint(torch.as_tensor(value))
    if isinstance(value, (nn.Module, type)) or callable(value) or depth == 0:
        return type(value).__qualname__
    if isinstance(value, dict):
        value = list(value.items())
    elif hasattr(value, "__dict__"):
        value = list(vars(value).items())
    if isinstance(value, (list, tuple)):
        return str([_said(part, depth - 1) for part in value])
    return repr(value)


def _state_of(generator: Any) -> str:
    if isinstance(generator, torch.Generator):
        return tree.fingerprint(generator.get_state())
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    return repr(generator.getstate() if isinstance(generator, random.Random) else generator.get_state())
