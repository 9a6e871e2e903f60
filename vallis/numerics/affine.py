"""The layers of a network that multiply their inputs with a matrix, and why the others are none.

A layer is affine where its outputs are ``z = W x + b`` at every place where it is used: linear layers, also over tokens
or time, and convolutions on patches. Whether it really is, in this network, is not believed but checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vallis.core import tree
from vallis.core.catalog import unknown
from vallis.core.functional import differentiating
from vallis.core.objective import Objective
from vallis.numerics import patches
from vallis.numerics.flows import Affine, Flow, Flows, NoFlow, run

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def affine_layers(objective: Objective, layers: Sequence[str] = ()) -> tuple[tuple[Affine, ...], Mapping[str, str]]:
    """The affine layers of a network, in the order of its modules, and why the others are none.

    Args:
        objective: whose network; its first batch is put through.
        layers: by name; all that own trainable parameters if empty.

    Returns:
        The layers, and for every other layer by name the reason, as half a sentence.

    Raises:
        UnknownPart: there is no layer of this name.
    """
    owned = owners(objective)
    for wanted in layers:
        if wanted not in owned:
            raise unknown("layer", wanted, owned)
    found: list[Affine] = []
    refused: dict[str, str] = {}
    for name, names in owned.items():
        if layers and name not in layers:
            continue
        layer = _affine(objective, name, names)
        if isinstance(layer, Affine):
            found.append(layer)
        else:
            refused[name] = layer
    with differentiating():
        disproved = _disproved(objective, found)
    good = tuple(layer for layer in found if layer.name not in disproved)
    return good, {name: (refused | disproved)[name] for name in owned if name in refused or name in disproved}


def owners(objective: Objective) -> Mapping[str, tuple[str, ...]]:
    """The modules that own trainable parameters, with the names of these; a tied one belongs to the first."""
    found: dict[str, list[str]] = {}
    for name in objective.names:
        found.setdefault(name.rpartition(".")[0], []).append(name)
    return {name: tuple(names) for name, names in found.items()}


def _affine(objective: Objective, name: str, names: tuple[str, ...]) -> Affine | str:
    """The layer, or why it is none."""
    parts = dict(objective.module.named_modules())
    module, prefix = parts.get(name), f"{name}." if name else ""
    if not isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
        return f"{_named(module)} multiplies its inputs with no matrix of its own"
    if isinstance(module, _CONVOLUTIONS):
        why = patches.why_not(module)
        if why is not None:
            return why
    if f"{prefix}weight" not in names:
        return "its weight is frozen, tied to an earlier layer, or computed from other parameters"
    weight = module.weight
    sharing = [other for other, part in parts.items() if any(own is weight for own in part._parameters.values())]
    for other in sharing:
        if type(parts[other]) is not type(module):
            return f"its weight is also that of {other}, {_named(parts[other])}"
    own_bias = f"{prefix}bias" in names and len(sharing) == 1
    bias = f"{prefix}bias" if own_bias else None
    shape = (weight.shape[0], weight[0].numel())
    return Affine(name=name, modules=tuple(sharing), weight=f"{prefix}weight", bias=bias, shape=shape)


def _named(module: nn.Module | None) -> str:
    kind = type(module).__name__
    return f"an {kind}" if kind[0] in "AEIO" or kind.startswith("LSTM") else f"a {kind}"


def _disproved(objective: Objective, layers: Sequence[Affine]) -> dict[str, str]:
    """Which of these layers are not what they look like, on the first batch, and why.

    With random cotangents on half of the examples, the gradient by W must be ``sum g x'`` over the recorded calls, and
    no row of another example may have one.
    """
    term = next(iter(objective.terms()), None)
    if term is None or not layers:
        return {}
    names = {layer.weight for layer in layers}
    origin = zip(objective.names, objective.origin, strict=True)
    point = [value.detach().requires_grad_(name in names) for name, value in origin]
    good, why = list(layers), {}
    while True:
        try:
            returned, flows = run(term, good, point)
            break
        except NoFlow as error:
            good = [layer for layer in good if layer.name != error.layer]
            why[error.layer] = error.why
    weights = dict(zip(objective.names, point, strict=True))
    slopes, pulled = _pulled(returned, [weights[layer.weight] for layer in good], flows, len(term.batch))
    for layer, slope in zip(good, slopes, strict=True):
        trouble = _compare(flows[layer.name], slope.reshape(layer.shape), pulled[layer.name])
        if trouble is not None:
            why[layer.name] = trouble
    return why


def _pulled(
    returned: Any, weights: Sequence[torch.Tensor], flows: Flows, num_examples: int
) -> tuple[tuple[torch.Tensor, ...], dict[str, list[torch.Tensor]]]:
    """Random cotangents, zero on the second half of the examples, at the weights and at the rows of each layer."""
    live = [leaf for leaf in tree.tensors(returned) if leaf.requires_grad]
    calls = [call for group in flows.values() for call in group]
    asked = [*weights, *(call.outputs for call in calls)]
    generator, told = torch.Generator("cpu").manual_seed(0), []
    for leaf in live:
        drawn = torch.randn(leaf.shape, generator=generator, dtype=torch.float32, device="cpu").to(leaf)
        if leaf.ndim and leaf.shape[0] == num_examples:
            drawn[(num_examples + 1) // 2 :] = 0
        told.append(drawn)
    if live:
        found = torch.autograd.grad(live, asked, told, allow_unused=True, materialize_grads=True)
    else:
        found = tuple(torch.zeros_like(value) for value in asked)
    rows = iter(found[len(weights) :])
    return found[: len(weights)], {name: [call.rows(next(rows)) for call in group] for name, group in flows.items()}


def _compare(calls: Sequence[Flow], slope: torch.Tensor, pulled: Sequence[torch.Tensor]) -> str | None:
    made = torch.zeros_like(slope)
    for call, rows in zip(calls, pulled, strict=True):
        made += rows.flatten(0, 1).T @ call.inputs.flatten(0, 1)
    scale = float(slope.norm() + made.norm())
    if scale > 0 and float((slope - made).norm()) > 1e-3 * scale:
        return "its weights act in another way than on the inputs that it is called with"
    if any(bool(rows[(len(rows) + 1) // 2 :].any()) for rows in pulled):
        return "its rows cannot be told apart by example"
    return None
