"""What flows into and out of the affine layers of a network for a batch, in a graph from their outputs on.

Which of the rows that a layer multiplies are those of which example is not believed but found out, for every batch: its
shape only says what may be (examples first, time first, all tokens as rows of one matrix), and two gradients say what
is. The second has the scores of each example scaled by a number of its own, and so has every row of that example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from vallis.core import tree
from vallis.core.errors import ModelError
from vallis.core.functional import differentiating
from vallis.core.objective import Term
from vallis.numerics import patches

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_GOLDEN = 0.6180339887498949


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
        before: how often all examples take their turns, one after the other: once where the rows of an example follow
            each other, and S times where time comes first.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    module: nn.Module
    before: int = 1

    def rows(self, z: torch.Tensor) -> torch.Tensor:
        """``(N, S, m)`` something of the shape of the outputs, position by position like the inputs."""
        if isinstance(self.module, _CONVOLUTIONS):
            return patches.positions(z)
        return _by_example(z, len(self.inputs), self.before)


Flows = Mapping[str, tuple[Flow, ...]]


def run(term: Term, layers: Sequence[Affine]) -> tuple[Any, Flows]:
    """What the network returns for a batch, in a graph from the outputs of these layers on, and what went through them.

    Args:
        term: the batch.
        layers: whose calls are recorded.

    Raises:
        NoFlow: inputs or outputs of a layer cannot be told apart by example, or it does not multiply them with its
            weight alone.
    """
    with differentiating():
        returned, calls, point = _recorded(term, layers)
        seen = _Seen.of(returned, [call for group in calls.values() for call in group], point, len(term.batch))
    slopes = dict(zip(term.objective.names, seen.slopes, strict=True))
    flows = {}
    for layer in layers:
        _must_make(layer, calls[layer.name], seen, slopes[layer.weight])
        flows[layer.name] = tuple(_told(layer.name, call, seen) for call in calls[layer.name])
    return returned, flows


def _recorded(
    term: Term, layers: Sequence[Affine]
) -> tuple[Any, Mapping[str, Sequence[_Call]], Sequence[torch.Tensor]]:
    """What the network returns, the calls of each layer, and the point, in which the weights of the layers may move."""
    objective = term.objective
    parts = dict(objective.module.named_modules())
    weights = {layer.weight for layer in layers}
    origin = zip(objective.names, objective.origin, strict=True)
    point = [value.detach().requires_grad_(name in weights) for name, value in origin]
    calls: dict[str, list[_Call]] = {layer.name: [] for layer in layers}
    handles = []
    for layer in layers:
        for name in layer.modules:
            recorder = _Recorder(calls[layer.name], len(term.batch), layer.name)
            handles.append(parts[name].register_forward_hook(recorder, prepend=True, with_kwargs=True))
    try:
        return term.outputs(point), calls, point
    finally:
        for handle in handles:
            handle.remove()


class NoFlow(ModelError):
    """What goes through a layer cannot be told apart by example, for the reason `why`, which is half a sentence."""

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(f"inputs and outputs of layer {layer} by example were required, but {why}: leave it out")
        self.layer, self.why = layer, why


@dataclass(frozen=True, eq=False)
class _Call:
    """A call as it came.

    Attributes:
        inputs: x, a copy; of a convolution its patches, ``(N, S, n)``.
        layouts: what `Flow.before` may be.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    module: nn.Module
    layouts: tuple[int, ...]

    def flow(self, num_examples: int, before: int) -> Flow:
        return Flow(_by_example(self.inputs, num_examples, before).contiguous(), self.outputs, self.module, before)


class _Recorder:
    """A hook that keeps what went in and out, and puts a variable in between."""

    def __init__(self, calls: list[_Call], num_examples: int, layer: str) -> None:
        self.calls, self.num_examples, self.layer = calls, num_examples, layer

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, z: Any) -> torch.Tensor:
        if not isinstance(z, torch.Tensor):
            raise NoFlow(self.layer, f"it returns a {type(z).__name__}")
        x = (args[0] if args else kwargs["input"]).detach()
        layouts = _layouts(module, x, self.num_examples)
        if not layouts:
            raise NoFlow(self.layer, f"its inputs {tuple(x.shape)} have no axis of {self.num_examples} examples")
        outputs = z if z.requires_grad else z.detach().requires_grad_()
        kept = patches.patches(module, x).contiguous() if isinstance(module, _CONVOLUTIONS) else x.clone()
        self.calls.append(_Call(kept, outputs, module, layouts))
        return outputs.clone()  # what follows may write over it


def _layouts(module: nn.Module, x: torch.Tensor, num_examples: int) -> tuple[int, ...]:
    """What `Flow.before` may be by the shape of the inputs: the likeliest first."""
    if isinstance(module, _CONVOLUTIONS):
        return (1,) if x.ndim == len(module.kernel_size) + 2 and len(x) == num_examples else ()
    found = [prod(x.shape[:axis]) for axis in range(x.ndim - 1) if x.shape[axis] == num_examples]
    if not found and x.ndim == 2 and len(x) and len(x) % num_examples == 0:
        found = [1, len(x) // num_examples]  # all tokens of a batch as rows of one matrix
    return tuple(dict.fromkeys(found))


def _by_example(rows: torch.Tensor, num_examples: int, before: int) -> torch.Tensor:
    """``(N, S, n)`` of ``(..., n)``."""
    width = rows.shape[-1]
    return rows.reshape(before, num_examples, -1, width).movedim(1, 0).reshape(num_examples, -1, width)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Gradients by all outputs of the recorded calls, for random cotangents at what the network returns.

    Attributes:
        first: of each call.
        scaled: of each call, with the cotangents of example i times `scales[i]`.
        slopes: those of `first` by the point.
        scales: ``(N,)`` all different, neighbours much so.
    """

    first: Mapping[_Call, torch.Tensor]
    scaled: Mapping[_Call, torch.Tensor]
    slopes: Sequence[torch.Tensor]
    scales: torch.Tensor

    @staticmethod
    def of(returned: Any, calls: Sequence[_Call], point: Sequence[torch.Tensor], num_examples: int) -> _Seen:
        like = point[0]
        turns = torch.arange(num_examples, dtype=torch.float64, device="cpu") * _GOLDEN
        scales = (1 + turns.frac()).to(like)
        leaves = [leaf for leaf in tree.tensors(returned) if leaf.requires_grad and leaf.shape[:1] == (num_examples,)]
        told = [_random(leaf) for leaf in leaves]
        more = [one * scales.to(one).view(-1, *[1] * (one.ndim - 1)) for one in told]
        outputs = [call.outputs for call in calls]
        moving = [value for value in point if value.requires_grad]
        found = _gradients(leaves, [*outputs, *moving], told)
        again = _gradients(leaves, outputs, more)
        by_weight = dict(zip(map(id, moving), found[len(outputs) :], strict=True))
        return _Seen(
            first=dict(zip(calls, found[: len(outputs)], strict=True)),
            scaled=dict(zip(calls, again, strict=True)),
            slopes=[by_weight.get(id(value), value) for value in point],
            scales=scales,
        )


def _told(layer: str, call: _Call, seen: _Seen) -> Flow:
    """The call in the only layout in which every row of an example is scaled as the example is."""
    flows = [call.flow(len(seen.scales), before) for before in call.layouts]
    fitting = [flow for flow in flows if _fits(flow, seen.first[call], seen.scaled[call], seen.scales)]
    if not fitting:
        raise NoFlow(layer, "its rows cannot be told apart by example")
    if len(fitting) > 1 and len(seen.scales) > 1:
        x = tuple(call.inputs.shape)
        raise NoFlow(
            layer, f"nothing tells which rows of its inputs {x} are those of which of {len(seen.scales)} examples"
        )
    return fitting[0]


def _fits(flow: Flow, first: torch.Tensor, scaled: torch.Tensor, scales: torch.Tensor) -> bool:
    rows, others = flow.rows(first), flow.rows(scaled)
    apart = (others - rows * scales.to(rows)[:, None, None]).norm(dim=2)
    rounding = 100 * torch.finfo(rows.dtype).eps * float(others.abs().max())
    return bool((apart <= 1e-2 * others.norm(dim=2) + rounding).all())


def _must_make(layer: Affine, calls: Sequence[_Call], seen: _Seen, slope: torch.Tensor) -> None:
    """The gradient by W must be ``sum g x'`` over the rows of all recorded calls, whosever they are."""
    slope = slope.reshape(layer.shape)
    made = torch.zeros_like(slope)
    for call in calls:
        first = seen.first[call]
        rows = patches.positions(first) if isinstance(call.module, _CONVOLUTIONS) else first
        made += rows.reshape(-1, layer.shape[0]).T @ call.inputs.reshape(-1, layer.shape[1])
    scale = float(slope.norm() + made.norm())
    if scale > 0 and float((slope - made).norm()) > 1e-3 * scale:
        raise NoFlow(layer.name, "its weights act in another way than on the inputs that it is called with")


def _random(leaf: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator(leaf.device).manual_seed(0)
    return torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype, device=leaf.device)


def _gradients(
    leaves: Sequence[torch.Tensor], at: Sequence[torch.Tensor], told: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    if not leaves or not at:
        return tuple(torch.zeros_like(value) for value in at)
    return torch.autograd.grad(leaves, at, told, retain_graph=True, allow_unused=True, materialize_grads=True)
