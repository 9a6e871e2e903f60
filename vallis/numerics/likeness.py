"""Whether two networks, losses or examples are the same but for numbers that are looked at elsewhere."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from itertools import zip_longest
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn

_INTERNAL = frozenset(vars(nn.Module()))


def are_set_up_alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks are the same function of their parameters and buffers, as far as their settings tell.

    They consist of layers of the same types, with the same plain attributes, in the same places; parameters and
    buffers are tied alike. Networks with hooks are not alike, whatever the hooks do.
    """
    if one is other:
        return not _has_hooks(one)
    places: tuple[dict[int, int], dict[int, int]] = ({}, {})
    pairs = zip_longest(one.named_modules(remove_duplicate=False), other.named_modules(remove_duplicate=False))
    return all(
        mine is not None
        and theirs is not None
        and mine[0] == theirs[0]
        and type(mine[1]) is type(theirs[1])
        and _settings_agree(mine[1], theirs[1])
        and _ties(mine[1], places[0]) == _ties(theirs[1], places[1])
        for mine, theirs in pairs
    ) and not (_has_hooks(one) or _has_hooks(other))


def are_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal to the last bit, tensors in containers and dataclasses included.

    Functions are equal that have the same code and see the same. What can say nothing of it, or raises, is equal to
    itself alone.
    """
    if one is other:
        return True
    if type(one) is not type(other) or isinstance(one, type):
        return False
    try:
        if isinstance(one, nn.Module):
            return are_set_up_alike(one, other) and are_equal(_numbers(one), _numbers(other))
        return _attributes_agree(one, other) and _values_agree(one, other)
    except Exception:
        return False


def _values_agree(one: Any, other: Any) -> bool:
    """Whether two values of one type are equal, but for their attributes."""
    if isinstance(one, torch.Tensor):
        alike = (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        return alike and (_lie_in_one_place(one, other) or torch.equal(one, other))
    if isinstance(one, Mapping):
        return are_equal(list(one.items()), list(other.items()))  # in their order, too
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(are_equal, one, other))
    if isinstance(one, FunctionType):
        return one.__code__ == other.__code__ and are_equal(_surroundings(one), _surroundings(other))
    if isinstance(one, MethodType):
        return are_equal((one.__func__, one.__self__), (other.__func__, other.__self__))
    if isinstance(one, functools.partial):
        return are_equal((one.func, one.args, one.keywords), (other.func, other.args, other.keywords))
    return dataclasses.is_dataclass(one) or bool(one == other)


def _attributes_agree(one: Any, other: Any) -> bool:
    """Also those that nobody declared: of functions, of dataclasses beside their fields."""
    mine, theirs = _attributes(one), _attributes(other)
    return mine.keys() == theirs.keys() and all(are_equal(mine[name], theirs[name]) for name in mine)


def _attributes(held: Any) -> dict[str, Any]:
    """All but those that are computed from the others once they are asked for."""
    fields = dataclasses.fields(held) if dataclasses.is_dataclass(held) else ()
    found = {**{field.name: getattr(held, field.name) for field in fields}, **getattr(held, "__dict__", {})}
    made = functools.cached_property
    return {name: value for name, value in found.items() if not isinstance(getattr(type(held), name, None), made)}


def _numbers(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _surroundings(function: FunctionType) -> list[Any]:
    """What a function sees beside its arguments; the globals of one module are one object."""
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    return [closure, function.__defaults__, function.__kwdefaults__, id(function.__globals__)]


def _lie_in_one_place(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride() and one.numel() > 0


def _has_hooks(module: nn.Module) -> bool:
    if nn.modules.module._has_any_global_hook():
        return True
    return any(
        held
        for part in module.modules()
        for name, held in vars(part).items()
        if name in _INTERNAL and name.endswith("hooks")
    )


def _settings_agree(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = ({key: value for key, value in vars(part).items() if key not in _INTERNAL} for part in (one, other))
    return one.training == other.training and are_equal(mine, theirs)


def _ties(part: nn.Module, places: dict[int, int]) -> list[tuple[str, int]]:
    """The parameters and buffers of a layer, each by when it was met first."""
    held = (*part._parameters.items(), *part._buffers.items())
    return [(key, places.setdefault(id(value), len(places))) for key, value in held if value is not None]
