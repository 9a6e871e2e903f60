"""What flows into and out of the affine layers of a network for a batch, in a graph from their outputs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vallis.core.errors import ModelError
from vallis.core.functional import differentiating
from vallis.core.objective import Term
from vallis.numerics import patches

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Affine:
    """A layer ``z = W x + b``.

    Attributes:
        name: of the layer, dotted.
        modules: the names of all modules that own its weight: more than one where it is tied.
        weight: the name of the weight, ``(m, n)`` when flattened from the second axis on.
        bias: the name of the trainable bias, if it has one of its own.
        shape: (m, n).
    """

    name: str
    modules: tuple[str, ...]
    weight: str
    bias: str | None
    shape: tuple[int, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters, the weight first."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class Flow:
    """What went through an affine layer in one call, for N examples at S positions each.

    Attributes:
        inputs: ``(N, S, n)``, a copy.
        outputs: z as it stands in the graph, in the module's own shape.
        module: which was called.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    module: nn.Module

    def rows(self, z: torch.Tensor) -> torch.Tensor:
        """``(N, S, m)`` something of the shape of the outputs, position by position like the inputs."""
        if isinstance(self.module, _CONVOLUTIONS):
            return patches.positions(z)
        num_examples, num_positions = self.inputs.shape[:2]
        if z.ndim == 3 and z.shape[0] != num_examples and z.shape[:2] == (num_positions, num_examples):
            return z.transpose(0, 1)
        return z.reshape(num_examples, num_positions, z.shape[-1])


Flows = Mapping[str, tuple[Flow, ...]]


def run(term: Term, layers: Sequence[Affine], point: Sequence[torch.Tensor] | None = None) -> tuple[Any, Flows]:
    """What the network returns for a batch, in a graph from the outputs of these layers on, and what went through them.

    Args:
        term: the batch.
        layers: whose calls are recorded.
        point: the parameters; None takes the origin, as constants.

    Raises:
        NoFlow: inputs or outputs of a layer cannot be told apart by example.
    """
    objective = term.objective
    parts = dict(objective.module.named_modules())
    flows: dict[str, list[Flow]] = {layer.name: [] for layer in layers}
    handles = []
    for layer in layers:
        for name in layer.modules:
            recorder = _Recorder(flows[layer.name], len(term.batch), layer.name)
            handles.append(parts[name].register_forward_hook(recorder, prepend=True, with_kwargs=True))
    try:
        with differentiating():
            returned = term.outputs(objective.origin if point is None else point)
    finally:
        for handle in handles:
            handle.remove()
    return returned, {name: tuple(calls) for name, calls in flows.items()}


class NoFlow(ModelError):
    """What goes through a layer cannot be told apart by example, for the reason `why`, which is half a sentence."""

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(f"inputs and outputs of layer {layer} by example were required, but {why}: leave it out")
        self.layer, self.why = layer, why


class _Recorder:
    """A hook that keeps what went in and out, and puts a variable in between."""

    def __init__(self, calls: list[Flow], num_examples: int, layer: str) -> None:
        self.calls, self.num_examples, self.layer = calls, num_examples, layer

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, z: Any) -> torch.Tensor:
        if not isinstance(z, torch.Tensor):
            raise NoFlow(self.layer, f"it returns a {type(z).__name__}")
        x = (args[0] if args else kwargs["input"]).detach()
        outputs = z if z.requires_grad else z.detach().requires_grad_()
        self.calls.append(Flow(self._positions(module, x), outputs, module))
        return outputs.clone()  # what follows may write over it

    def _positions(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        n = self.num_examples
        if isinstance(module, _CONVOLUTIONS):
            if x.ndim != len(module.kernel_size) + 2 or len(x) != n:
                raise NoFlow(self.layer, f"its inputs {tuple(x.shape)} have no axis of {n} examples")
            return patches.patches(module, x).contiguous()
        if x.ndim >= 2 and len(x) == n:
            return x.reshape(n, -1, x.shape[-1]).clone()
        if x.ndim == 3 and x.shape[1] == n:  # time comes first
            return x.transpose(0, 1).contiguous()
        if x.ndim == 2 and len(x) % n == 0:
            return x.reshape(n, -1, x.shape[-1]).clone()
        raise NoFlow(self.layer, f"its inputs {tuple(x.shape)} have no axis of {n} examples")
