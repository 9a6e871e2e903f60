"""Changes of the weights that change no output: what an invariant measurement must not see.

Each takes a solution and a stream and returns another solution of the same function, or None where the architecture is
none of those for which it is known to be one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import torch

from vallis.core.rng import Rng
from vallis.core.types import Solution

Symmetry = Callable[[Solution, Rng], Solution | None]


def layer_rescaling(solution: Solution, rng: Rng) -> Solution | None:
    """Every hidden layer's output multiplied by a positive number, which the next layer divides out (ReLU nets)."""
    layers = solution.net.layers
    if not {"homogeneous", "feedforward"} <= solution.net.traits or not _are(solution, "Linear", "Conv2d"):
        return None
    logs = torch.rand(len(layers) - 1, generator=rng.child("factors").torch(), dtype=torch.float64) * 2 - 1
    factors = [1.0, *logs.exp().tolist(), 1.0]
    params = dict(solution.params)
    for place, layer in enumerate(layers):
        before, after = factors[place], factors[place + 1]
        for name in layer.parameters:
            params[name] = params[name] * (after if name.endswith("bias") else after / before)
    return replace(solution, params=params)


def unit_permutation(solution: Solution, rng: Rng) -> Solution | None:
    """The units of every hidden layer in another order (fully connected nets)."""
    layers = solution.net.layers
    if "feedforward" not in solution.net.traits or not _are(solution, "Linear"):
        return None
    params = dict(solution.params)
    widths = [params[layer.parameters[0]].shape for layer in layers]
    # Units that are laid side by side over positions, or pooled with their neighbours, have no order of their own.
    pooled = any("Pool" in type(part).__name__ for part in solution.net.module.modules())
    if pooled or any(before[0] != after[1] for before, after in pairwise(widths)):
        return None
    for place, (layer, following) in enumerate(pairwise(layers)):
        size = len(params[layer.parameters[0]])
        order = torch.randperm(size, generator=rng.child("order", place).torch())
        if bool((order == torch.arange(size)).all()):
            order = order.roll(1)
        for name in layer.parameters:
            params[name] = params[name][order]
        weight = f"{following.name}.weight"
        params[weight] = params[weight][:, order]
    return replace(solution, params=params)


SYMMETRIES: Mapping[str, Symmetry] = {"layer_rescaling": layer_rescaling, "unit_permutation": unit_permutation}


def _are(solution: Solution, *kinds: str) -> bool:
    """Whether it is a chain of at least two layers of these kinds, each used once and with all its weights free."""
    layers, module = solution.net.layers, solution.net.module
    free = all(name in solution.params for layer in layers for name in layer.parameters)
    once = all(
        len(list(named(remove_duplicate=False))) == len(list(named(remove_duplicate=True)))
        for named in (module.named_modules, module.named_parameters)
    )
    return len(layers) > 1 and free and once and all(layer.kind in kinds for layer in layers)
