"""The memory of a torch optimizer as named tensors and plain JSON values, and back, without pickle.

What an optimizer keeps for a parameter is a tree of dicts, lists, tensors and numbers (L-BFGS keeps lists of tensors).
The tree becomes JSON in which every tensor is replaced by its name; the tensors go beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from vallis.core.errors import SettingsError


def flatten(tree: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The tree as plain JSON; copies of its tensors are put into `tensors` under names that begin with `name`.

    Raises:
        SettingsError: the tree holds something that is neither a tensor nor a plain value.
    """
    if isinstance(tree, torch.Tensor):
        tensors[name] = tree.detach().clone()
        # Step counters live on the host even when the parameters do not.
        return {"tensor": name, "host": tree.ndim == 0 and tree.device.type == "cpu"}
    if isinstance(tree, Mapping):
        return {"dict": {str(key): flatten(value, f"{name}/{key}", tensors) for key, value in tree.items()}}
    if isinstance(tree, (list, tuple)):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [flatten(value, f"{name}/{place}", tensors) for place, value in enumerate(tree)]}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"float": repr(tree)}  # JSON has no word for it
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise SettingsError(
        f"an optimizer that keeps tensors and plain values was required, it keeps a {type(tree).__name__} as {name}: "
        "use another optimizer"
    )


def unflatten(plain: Any, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    """The tree that `flatten` took apart, with tensors of its own."""
    if not isinstance(plain, Mapping):
        return plain
    if "tensor" in plain:
        tensor = tensors[plain["tensor"]].detach().clone()
        return tensor if plain["host"] else tensor.to(device)
    if "dict" in plain:
        return {key: unflatten(value, tensors, device) for key, value in plain["dict"].items()}
    if "float" in plain:
        return float(plain["float"])
    if "list" in plain:
        return [unflatten(value, tensors, device) for value in plain["list"]]
    return tuple(unflatten(value, tensors, device) for value in plain["tuple"])


def pack(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What the optimizer remembers of each of its parameters, by their place; tensors go into `tensors`."""
    memory = optimizer.state_dict()["state"]
    return {str(place): flatten(kept, f"optimizer/{place}", tensors) for place, kept in memory.items()}


def unpack(
    optimizer: torch.optim.Optimizer, packed: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> torch.optim.Optimizer:
    """The fresh optimizer, now remembering what `pack` put to rest.

    `Optimizer.load_state_dict` would not do: it casts what it loads to the dtype of the parameter, and some optimizers
    keep numbers in another one.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, kept in packed.items():
        parameter = parameters[int(place)]
        optimizer.state[parameter] = unflatten(kept, tensors, parameter.device)
    return optimizer
