"""Any optimizer of `torch.optim` by name, with its arguments checked before anything is trained."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch

from vallis.core.catalog import unknown
from vallis.core.errors import SettingsError, UnknownPart

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


@cache
def needs_closure(name: str) -> bool:
    """Whether a step of this optimizer evaluates the loss several times (L-BFGS)."""
    return inspect.signature(find(name).step).parameters["closure"].default is inspect.Parameter.empty
