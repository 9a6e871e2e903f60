"""Any optimizer of `torch.optim` by name, with its arguments checked before anything is trained."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch.optim.sgd import sgd

from vallis.core.catalog import unknown
from vallis.core.errors import SettingsError, UnknownPart
from vallis.numerics.same_bits import ALIGNED

# What `GradientDescent` calls an argument that optimizers know under a shorter name.
_FIELDS = {"lr": "learning_rate", "momentum": "momentum", "weight_decay": "weight_decay"}


def find(name: str) -> type[torch.optim.Optimizer]:
    """The class of this name in `torch.optim`.

    Raises:
        UnknownPart: there is none; the message says what comes nearest.
    """
    known = {
        key: value
        for key, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    if name not in known:
        same = [key for key in known if key.lower() == name.lower()]
        raise (
            UnknownPart(f"no optimizer is named {name!r}; did you mean {same[0]}?")
            if same
            else unknown("optimizer", name, known)
        )
    return known[name]


def arguments(
    name: str, learning_rate: float, momentum: float, weight_decay: float, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The keyword arguments the optimizer of this name is made with.

    Raises:
        UnknownPart: there is no such optimizer.
        SettingsError: the optimizer does not take one of the arguments.
    """
    taken = set(inspect.signature(find(name).__init__).parameters) - {"self", "params"}
    for option in options:
        if option in _FIELDS:
            raise SettingsError(f"options may not hold {option!r}, it is a setting of its own: use {_FIELDS[option]}=")
        if option not in taken:
            raise SettingsError(f"{name}: {unknown('option', option, taken - set(_FIELDS))}")
    given = {"lr": learning_rate}
    for key, value in (("momentum", momentum), ("weight_decay", weight_decay)):
        if key in taken:
            given[key] = value
        elif value:
            raise SettingsError(f"an optimizer that takes {key} was required by {key}={value}, {name} does not: set 0")
    return {**given, **options}


def make(name: str, parameters: Iterable[torch.nn.Parameter], given: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer over these parameters.

    Raises:
        SettingsError: the optimizer refuses the arguments or the parameters.
    """
    try:
        return find(name)(list(parameters), **given)
    except UnknownPart:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingsError(f"settings that {name} accepts were required, it said: {error}") from error


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def advance(optimizer: torch.optim.Optimizer) -> None:
    """A step of an optimizer that needs no closure."""
    group = optimizer.param_groups[0]
    if type(optimizer) is not torch.optim.SGD or len(group["params"]) > 1 or _is_special(optimizer):
        optimizer.step()
        return
    # torch's own functions, without what surrounds them: for a small network that takes longer than the step.
    (weights,) = group["params"]
    memory = optimizer.state[weights]
    rule = {name: group[name] for name in ("weight_decay", "momentum", "dampening", "nesterov", "maximize")}
    speeds = _sgd(weights, weights.grad, memory.get("momentum_buffer"), group["lr"], rule)
    if group["momentum"]:
        memory["momentum_buffer"] = speeds


def _sgd(
    weights: torch.Tensor, slopes: torch.Tensor, speeds: torch.Tensor | None, rate: float, rule: Mapping[str, Any]
) -> torch.Tensor | None:
    """Moves the weights, and returns the new memory of momentum."""
    # One pass over memory instead of three, where each number comes out the same. The last few of a vector do
    # not, where its length is no multiple of that of the processor's registers.
    is_first = speeds is None and rule["momentum"] != 0
    is_even = weights.numel() * weights.itemsize % ALIGNED == 0
    if is_even and not is_first and _fuses(weights.dtype, weights.device.type, *rule.values()):
        return _fused(weights, slopes, speeds, rate, rule)
    return _unfused(weights, slopes, speeds, rate, rule)


def _unfused(
    weights: torch.Tensor, slopes: torch.Tensor, speeds: torch.Tensor | None, rate: float, rule: Mapping[str, Any]
) -> torch.Tensor | None:
    memory = [speeds]
    with torch.no_grad():
        sgd([weights], [slopes], memory, foreach=False, fused=False, lr=rate, **rule)
    return memory[0]


def _fused(
    weights: torch.Tensor, slopes: torch.Tensor, speeds: torch.Tensor | None, rate: float, rule: Mapping[str, Any]
) -> torch.Tensor | None:
    memory = [] if speeds is None else [speeds]
    with torch.no_grad():
        torch._fused_sgd_([weights], [slopes], memory, lr=rate, is_first_step=False, **rule)
    return speeds


@cache
def _fuses(dtype: torch.dtype, device: str, *rule: Any) -> bool:
    """Whether torch's fused step of this rule rounds each number as its plain one does; it is asked, not assumed."""
    given = dict(zip(("weight_decay", "momentum", "dampening", "nesterov", "maximize"), rule, strict=True))
    generator = torch.Generator().manual_seed(0)
    for rate in (0.1, 0.013, 1e-4):
        drawn = torch.randn(3, 2**13, generator=generator, dtype=dtype).to(device)
        plain, fused = drawn.clone(), drawn.clone()
        for (weights, slopes, speeds), way in ((plain, _unfused), (fused, _fused)):
            way(weights, slopes, speeds if given["momentum"] else None, rate, given)
        if not torch.equal(plain, fused):
            return False
    return True


def joint(
    optimizers: Sequence[torch.optim.Optimizer], values: torch.Tensor, slopes: torch.Tensor
) -> torch.optim.Optimizer | None:
    """One optimizer for K vectors of weights that are all treated alike; None where it cannot be.

    Args:
        optimizers: of one class and with the same arguments, each over one vector that is a row of `values`.
        values: ``(K, P')``.
        slopes: ``(K, P')``, where the gradients are put.
    """
    memories = [_memory(optimizer) for optimizer in optimizers]
    alike = all(_alike(memories[0], memory) for memory in memories)
    if type(optimizers[0]) not in _JOINABLE or not alike or _is_special(optimizers[0]):
        return None
    weights = torch.nn.Parameter(values)
    weights.grad = slopes
    kind: Any = type(optimizers[0])
    made: torch.optim.Optimizer = kind([weights])
    made.param_groups[0].update({k: v for k, v in optimizers[0].param_groups[0].items() if k != "params"})
    made.state.pop(weights, None)
    if memories[0]:
        made.state[weights] = {key: _together([memory[key] for memory in memories]) for key in memories[0]}
    for optimizer in optimizers:
        optimizer.state.clear()
    share(made, optimizers)
    return made


def share(made: torch.optim.Optimizer, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Lets each of the optimizers that were joined remember its row of what all remember together."""
    memory = _memory(made)
    if memory.keys() == _memory(optimizers[0]).keys():
        return  # they hold views already
    for place, optimizer in enumerate(optimizers):
        rows = {key: value[place] if _is_row(value, 2) else value for key, value in memory.items()}
        optimizer.state[_weights(optimizer)] = rows


def leave(optimizer: torch.optim.Optimizer) -> None:
    """Gives an optimizer that was joined a memory of its own."""
    memory = _memory(optimizer)
    if memory:
        kept = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in memory.items()}
        optimizer.state[_weights(optimizer)] = kept


# What they remember is rows as long as the weights, and counters of steps.
_JOINABLE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad)


def _is_special(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it was asked to step in another way than torch's plainest, or is looked at while it does."""
    group = optimizer.param_groups[0]
    return bool(
        optimizer._optimizer_step_pre_hooks or any(group.get(how) for how in ("fused", "foreach", "capturable"))
    )


def _weights(optimizer: torch.optim.Optimizer) -> torch.Tensor:
    (weights,) = optimizer.param_groups[0]["params"]
    found: torch.Tensor = weights
    return found


def _memory(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    kept: dict[str, Any] = optimizer.state.get(_weights(optimizer), {})
    return kept


def _is_row(value: Any, axes: int = 1) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == axes


def _alike(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two memories have the same entries, and the same counters."""
    return first.keys() == other.keys() and all(
        _is_row(value) == _is_row(other[key]) and (_is_row(value) or value == other[key])
        for key, value in first.items()
    )


def _together(parts: Sequence[Any]) -> Any:
    return torch.stack(list(parts)) if _is_row(parts[0]) else copy.copy(parts[0])


@cache
def needs_closure(name: str) -> bool:
    """Whether a step of this optimizer evaluates the loss several times (L-BFGS)."""
    return inspect.signature(find(name).step).parameters["closure"].default is inspect.Parameter.empty
