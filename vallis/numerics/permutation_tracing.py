"""Finds which units of a network may change places, by following its channels from layer to layer.

The network is traced symbolically, and every tensor carries the groups that its channels belong to. A dense layer or a
convolution ends the groups of its inputs and begins one of its outputs; an addition, as of a shortcut, makes two groups
one; flattening gives each unit a block of entries; and whatever is not known here holds the groups that it touches in
place. What comes of it is then put to the test, group by group: a reordering that changes the answers is left out. So
nothing is called a symmetry that is none, and of an unusual network the part that is understood is found.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from vallis.core import tree
from vallis.core.errors import ModelError, UsageError
from vallis.core.functional import call, preserving_global_state
from vallis.numerics.permutations import PermutationSpec, Place, permuted

_HELD = -1  # the group of what must stay in place
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.ReLU6, nn.Hardtanh,
    nn.Hardswish, nn.Identity, nn.Dropout, nn.Dropout2d, nn.SELU, nn.Mish,
)  # fmt: skip
# By the number of axes behind that of the channels: with fewer axes they take the examples for channels.
_POOLS: dict[Any, int] = {
    nn.MaxPool1d: 1, nn.AvgPool1d: 1, nn.AdaptiveAvgPool1d: 1, nn.AdaptiveMaxPool1d: 1, F.max_pool1d: 1,
    F.avg_pool1d: 1, nn.MaxPool2d: 2, nn.AvgPool2d: 2, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveMaxPool2d: 2,
    F.max_pool2d: 2, F.avg_pool2d: 2, F.adaptive_avg_pool2d: 2, F.adaptive_max_pool2d: 2, nn.MaxPool3d: 3,
    nn.AvgPool3d: 3,
}  # fmt: skip
_SAME: tuple[Any, ...] = (
    torch.relu, F.relu, torch.tanh, F.tanh, torch.sigmoid, F.gelu, F.silu, F.leaky_relu, F.dropout, F.softplus, F.elu,
    "relu", "tanh", "sigmoid", "contiguous", "clone", "relu_",
)  # fmt: skip
# How far answers may move for the order of sums, as a share of the largest.
_ROUNDING = 1e-3
_SUMS: tuple[Any, ...] = (operator.add, operator.iadd, operator.sub, operator.mul, torch.add, torch.mul, "add", "mul")


@dataclass(frozen=True)
class _Segment:
    """Neighbouring channels that are one group: its number, its units, the entries of each unit."""

    group: int
    size: int
    block: int = 1


@dataclass(frozen=True)
class _Signature:
    """The channels of a tensor: their axis and their segments along it."""

    axis: int
    segments: tuple[_Segment, ...]


@dataclass
class _Groups:
    """Groups that may turn out to be one, and where each was seen."""

    parents: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    places: list[tuple[int, Place]] = field(default_factory=list)
    bound: dict[tuple[str, int], tuple[_Segment, ...]] = field(default_factory=dict)

    def new(self, size: int) -> int:
        self.parents.append(len(self.parents))
        self.sizes.append(size)
        return len(self.parents) - 1

    def root(self, group: int) -> int:
        while group != _HELD and self.parents[group] != group:
            group = self.parents[group]
        return group

    def join(self, one: int, other: int) -> None:
        one, other = self.root(one), self.root(other)
        if one == other:
            return
        first, second = sorted((one, other))
        self.parents[second] = first  # held (-1) sorts first, and an earlier group before a later one

    def hold(self, signature: _Signature | None) -> None:
        for segment in signature.segments if signature else ():
            self.join(segment.group, _HELD)

    def agree(self, one: tuple[_Segment, ...], other: tuple[_Segment, ...]) -> None:
        """Two descriptions of the same channels: one group each, or none where they are cut differently."""
        alike = [(a.size, a.block) for a in one] == [(b.size, b.block) for b in other]
        for a, b in zip(one, other, strict=True) if alike else ():
            self.join(a.group, b.group)
        for segment in () if alike else (*one, *other):
            self.join(segment.group, _HELD)

    def bind(self, name: str, axis: int, segments: tuple[_Segment, ...]) -> None:
        """These channels lie along this axis of a tensor; a tensor that is used twice ties the groups of both uses."""
        if (name, axis) in self.bound:
            self.agree(self.bound[name, axis], segments)
            return
        self.bound[name, axis], start = segments, 0
        for segment in segments:
            self.places.append((segment.group, Place(name, axis, segment.block, start)))
            start += segment.size * segment.block


def find_permutations(
    module: nn.Module, x: Any, networks: Sequence[Mapping[str, torch.Tensor]] = ()
) -> PermutationSpec:
    """The groups of a network's units, in the order from its inputs to its outputs.

    Args:
        module: in eval mode; it is left as it is.
        x: some inputs, for the shapes of what lies between.
        networks: parameters and buffers by name, with which the groups are put to the test; none takes those of the
            module. Where a layer does nothing yet, as one that multiplies by ones, every order of its units passes.

    Raises:
        ModelError: its forward cannot be traced.
    """
    names = {id(value): name for name, value in reversed([*module.named_parameters(), *module.named_buffers()])}
    if not isinstance(x, torch.Tensor):
        raise ModelError(
            f"inputs in one tensor were required to trace the units, {type(x).__name__} came: write a spec"
        )
    try:
        with preserving_global_state(), torch.no_grad():
            traced = fx.symbolic_trace(module)
            _Shapes(traced).run(x)
    except Exception as error:
        raise ModelError(
            "a network whose forward can be traced was required, tracing it raised "
            f"{type(error).__name__} ({_cause(error)}): write its PermutationSpec, or leave align out"
        ) from error
    groups, known = _Groups(), dict(traced.named_modules())
    signatures: dict[fx.Node, _Signature | None] = {}
    for node in traced.graph.nodes:
        signatures[node] = _after(node, signatures, groups, known, names)
    # A tensor that the forward takes by itself is used in a way that is not known.
    taken = {str(node.target) for node in traced.graph.nodes if node.op == "get_attr"}
    free = {
        names.get(id(value), name) for name, value in module.named_parameters(remove_duplicate=False) if name in taken
    }
    for group, place in groups.places:
        if place.name in free:
            groups.join(group, _HELD)
    spec = _spec(groups)
    own = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    for held in networks or ({},):
        spec = _proved(spec, module, x, own | {name: value.to(own[name]) for name, value in held.items()})
    return spec


class _Shapes(fx.Interpreter):
    """Notes the shapes of what lies between; torch's own way of it prints a traceback where the network fails."""

    def run_node(self, n: fx.Node) -> Any:
        """What the node gives."""
        found = super().run_node(n)
        n.meta["shape"] = found.shape if isinstance(found, torch.Tensor) else None
        return found


def _cause(error: Exception) -> str:
    """The first sentence of an error; torch hints at other remedies behind it."""
    said = str(error).partition(chr(10))[0].partition(". ")[0].strip("'\" .")
    return "its forward asks for len(x): x.shape[0] can be traced" if said.startswith("len'") else said or "no reason"


def _proved(
    spec: PermutationSpec, module: nn.Module, x: torch.Tensor, tensors: Mapping[str, torch.Tensor]
) -> PermutationSpec:
    """The groups whose units can be turned round without a change of the answers of a network."""
    with preserving_global_state(), torch.no_grad():
        expected = tree.tensors(call(module, dict(tensors), {}, x))
        good = []
        for group, places in spec.groups.items():
            alone = PermutationSpec(groups={group: places}, sizes={group: spec.sizes[group]})
            try:
                turned = permuted(alone, tensors, {group: torch.arange(alone.sizes[group]).roll(1)})
            except UsageError:  # what is behind the units is not as large as they are
                continue
            answers = tree.tensors(call(module, turned, {}, x))
            if all(_alike(*pair) for pair in zip(expected, answers, strict=True)):
                good.append(group)
    return PermutationSpec({group: spec.groups[group] for group in good}, {group: spec.sizes[group] for group in good})


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.is_floating_point() or not one.numel():
        return True  # such as the place of the largest, where several are nearly equal
    share = max(_ROUNDING, 8 * torch.finfo(one.dtype).eps)
    room = share * float(one.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(one, other, rtol=0.0, atol=room, equal_nan=True)


def _spec(groups: _Groups) -> PermutationSpec:
    found: dict[int, list[Place]] = {}
    for group, place in groups.places:
        if groups.root(group) != _HELD:
            found.setdefault(groups.root(group), []).append(place)
    # A group of one unit has no other order.
    kept = {root: places for root, places in sorted(found.items()) if groups.sizes[root] > 1}
    labels = {root: f"{places[0].name.rpartition('.')[0] or places[0].name}" for root, places in kept.items()}
    return PermutationSpec(
        groups={labels[root]: tuple(places) for root, places in kept.items()},
        sizes={labels[root]: groups.sizes[root] for root in kept},
    )


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    found: torch.Size | None = node.meta.get("shape")
    return None if found is None else tuple(found)


def _after(
    node: fx.Node,
    signatures: dict[fx.Node, _Signature | None],
    groups: _Groups,
    known: dict[str, nn.Module],
    names: dict[int, str],
) -> _Signature | None:
    """The channels of what a node returns; None where nothing may move."""
    given = [signatures[held] for held in node.all_input_nodes]
    first = given[0] if given else None
    if node.op == "call_module":
        return _through(known[str(node.target)], first, node, groups, names)
    if node.op in ("call_function", "call_method"):
        if node.target in _SAME and len(given) == 1:
            return first
        if node.target in _POOLS and len(given) == 1:
            return _pooled(_POOLS[node.target], first, node, groups)
        if node.target in _SUMS and _shape(node) is not None:
            return _summed(node, given, groups)
        if node.target in (torch.flatten, "flatten", "view", "reshape", torch.reshape):
            return _flattened(node, first, groups)
        if node.target in (torch.mean, "mean"):
            return _averaged(node, first, groups)
        if node.target in (torch.cat, torch.concat):
            return _joined(node, given, groups)
        if node.target in ("size", getattr, operator.getitem) and _shape(node) is None:
            return None  # a number, not a tensor
    for signature in given:
        groups.hold(signature)
    return None


def _through(
    layer: nn.Module, signature: _Signature | None, node: fx.Node, groups: _Groups, names: dict[int, str]
) -> _Signature | None:
    shape = _shape(node)
    if type(layer) in _ELEMENTWISE:
        return signature
    if type(layer) in _POOLS:
        return _pooled(_POOLS[type(layer)], signature, node, groups)
    if any(id(value) not in names for value in _tensors_of(layer)):  # computed from others, as by weight_norm
        _held(layer, signature, groups, names)
        return None
    if type(layer) is nn.Flatten:
        return _flattened(node, signature, groups)
    if isinstance(layer, _NORMS) and type(layer) in _NORMS and (signature is None or signature.axis == 1):
        if signature is None:
            _held(layer, signature, groups, names)
            return None
        for value in _tensors_of(layer):
            groups.bind(names[id(value)], 0, signature.segments)
        return signature
    if type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1 and shape is not None:
        if signature is None or signature.axis != len(shape) - 1:  # what it scales, then, are no units that move
            _held(layer, None, groups, names)
            return signature
        for value in _tensors_of(layer):
            groups.bind(names[id(value)], 0, signature.segments)
        return signature
    if isinstance(layer, nn.Linear) and type(layer) is nn.Linear and shape is not None:
        last = len(shape) - 1
        _end(layer.weight, signature if signature is None or signature.axis == last else None, groups, names)
        if signature is not None and signature.axis != last:
            for value in _tensors_of(layer):  # the channels are not what it mixes, and what it mixes stays
                groups.bind(names[id(value)], 0, (_Segment(_HELD, len(value)),))
            return signature
        return _begin(layer, last, groups, names)
    images = shape is not None and len(shape) == getattr(layer, "weight", torch.empty(0)).ndim
    if isinstance(layer, _CONVOLUTIONS) and type(layer) in _CONVOLUTIONS and layer.groups == 1 and images:
        groups.hold(signature if signature is not None and signature.axis != 1 else None)
        _end(layer.weight, signature if signature is None or signature.axis == 1 else None, groups, names)
        return _begin(layer, 1, groups, names)
    _held(layer, signature, groups, names)
    return None


def _held(layer: nn.Module, signature: _Signature | None, groups: _Groups, names: dict[int, str]) -> None:
    """What a layer is given stays in place, and so does all of its own, should it be used again elsewhere."""
    groups.hold(signature)
    for value in (*layer.parameters(), *layer.buffers()):
        for axis, size in enumerate(value.shape):
            groups.bind(names[id(value)], axis, (_Segment(_HELD, size),))


def _tensors_of(layer: nn.Module) -> list[torch.Tensor]:
    held = [getattr(layer, name, None) for name in ("weight", "bias", "running_mean", "running_var")]
    return [value for value in held if isinstance(value, torch.Tensor)]


def _pooled(axes: int, signature: _Signature | None, node: fx.Node, groups: _Groups) -> _Signature | None:
    shape = _shape(node)
    if signature is None or (signature.axis == 1 and shape is not None and len(shape) == 2 + axes):
        return signature
    groups.hold(signature)
    return None


def _end(weight: torch.Tensor, signature: _Signature | None, groups: _Groups, names: dict[int, str]) -> None:
    if signature is None:
        # A tensor that meets inputs that stay in place must stay, too, should it be used again elsewhere.
        size = weight.shape[1]
        groups.bind(names[id(weight)], 1, (_Segment(_HELD, size),))
        return
    groups.bind(names[id(weight)], 1, signature.segments)


def _begin(layer: Any, axis: int, groups: _Groups, names: dict[int, str]) -> _Signature:
    size = layer.weight.shape[0]
    segments = (_Segment(groups.new(size), size),)
    for value in (layer.weight, layer.bias):
        if value is not None:
            groups.bind(names[id(value)], 0, segments)
    return _Signature(axis, segments)


def _summed(node: fx.Node, given: Sequence[_Signature | None], groups: _Groups) -> _Signature | None:
    whole = [held for held in node.all_input_nodes if _shape(held) == _shape(node)]
    if len(given) == len(whole) == 1:  # with a number, or with itself
        return given[0]
    alike = all(held is not None for held in given) and len(whole) == len(given) == 2
    one, other = (given[0], given[1]) if alike else (None, None)
    if one is None or other is None or one.axis != other.axis:
        for signature in given:
            groups.hold(signature)
        return None
    groups.agree(one.segments, other.segments)
    return one


def _flattened(node: fx.Node, signature: _Signature | None, groups: _Groups) -> _Signature | None:
    """All axes behind that of the examples made one: each unit has as many entries as there were places."""
    before, after = _shape(node.all_input_nodes[0]), _shape(node)
    if before is None or after is None or signature is None:
        return None
    if before == after:
        return signature
    if signature.axis != 1 or after != (before[0], math.prod(before[1:])):
        groups.hold(signature)
        return None
    places = math.prod(before[2:])
    return _Signature(1, tuple(replace(s, block=s.block * places) for s in signature.segments))


def _averaged(node: fx.Node, signature: _Signature | None, groups: _Groups) -> _Signature | None:
    before, after = _shape(node.all_input_nodes[0]), _shape(node)
    if before is None or after is None or signature is None:
        return None
    pooled = after[:2] == before[:2] and (len(after) == 2 or after[2:] == (1,) * (len(before) - 2))
    over: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 1)
    axes = {int(axis) % len(before) for axis in (over if isinstance(over, (tuple, list)) else (over,))}
    if signature.axis != 1 or not pooled or 1 in axes:
        groups.hold(signature)
        return None
    return signature


def _joined(node: fx.Node, given: Sequence[_Signature | None], groups: _Groups) -> _Signature | None:
    axis: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    parts = [held for held in given if held is not None]
    shape = _shape(node)
    if shape is None or len(parts) < len(given) or any(part.axis != int(axis) % len(shape) for part in parts):
        for signature in given:
            groups.hold(signature)
        return None
    return _Signature(parts[0].axis, tuple(segment for part in parts for segment in part.segments))
