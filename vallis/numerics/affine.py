"""The layers of a network that multiply their inputs with a matrix, and why the others are none.

A layer is affine where its outputs are ``z = W x + b`` at every place where it is used: linear layers, also over tokens
or time, and convolutions on patches. Whether it really is, in this network, is not believed but checked, here and once
more in every batch that is put through (see `vallis.numerics.flows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from vallis.core.catalog import unknown
from vallis.core.objective import Objective
from vallis.numerics import patches
from vallis.numerics.curvature import named
from vallis.numerics.flows import Affine, Flows, NoFlow, run

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_WITH_AN = ("A", "E", "I", "O", "LSTM", "RNN", "RMSNorm")


def affine_layers(objective: Objective, layers: Sequence[str] = ()) -> tuple[tuple[Affine, ...], Mapping[str, str]]:
    """The affine layers of a network, in the order of its modules, and why the others are none.

    Args:
        objective: whose network; batches are put through until every layer was at work on several examples.
        layers: by name; all that own trainable parameters if empty.

    Returns:
        The layers, and for every other layer by name the reason, as half a sentence.

    Raises:
        UnknownPart: there is no layer of this name.
    """
    owned = owners(objective)
    layers = named(layers)
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
        return f"it is {_named(module)}, and only Linear, Conv1d and Conv2d layers are read as matrices"
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
    return f"an {kind}" if kind.startswith(_WITH_AN) and not kind.startswith("One") else f"a {kind}"


def _disproved(objective: Objective, layers: Sequence[Affine]) -> dict[str, str]:
    """Which of these layers are not what they look like, and why.

    Batches are put through until each layer has been seen at work on more examples than one.
    """
    left, why = list(layers), dict[str, str]()
    for term in objective.terms() if layers else ():
        flows: Flows = {}
        while left and not flows:
            try:
                _, flows = run(term, left)
            except NoFlow as error:
                why[error.layer] = error.why
                left = [layer for layer in left if layer.name != error.layer]
        left = [layer for layer in left if len(term.batch) == 1 or not flows[layer.name]]
        if not left:
            break
    return why
