"""Reads the program of a network off its forward function, with `torch.fx`."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from vallis.numerics.program import Instruction, Program, Slot
from vallis.numerics.program_graph import NoProgram, graph_of
from vallis.numerics.program_kernels import (
    Activation,
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    GroupNorm,
    HalvingMaxPool,
    Kernel,
    LayerNorm,
    Linear,
    Plain,
    activation,
)

# Without weights, without chance, and without writing into their inputs.
_PLAIN_MODULES = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.Softplus, nn.ELU, nn.Hardtanh, nn.LocalResponseNorm, nn.Unflatten, nn.ZeroPad2d),
)
_PLAIN_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    {
        *(operator.add, operator.sub, operator.mul, operator.getitem, operator.neg, getattr),
        *(torch.add, torch.sub, torch.mul, torch.cat, torch.flatten, torch.relu, torch.tanh, torch.sigmoid),
        *(F.relu, F.leaky_relu, F.gelu, F.silu, F.softplus, F.pad, F.max_pool2d, F.avg_pool2d),
        *(F.adaptive_avg_pool2d, F.local_response_norm),
    }
)
_PLAIN_METHODS = frozenset(
    {"contiguous", "flatten", "view", "reshape", "mean", "sum", "relu", "tanh", "sigmoid", "size", "add"}
)
# Sums of more than two slopes depend on the order of the sum, which autograd alone knows.
_MOST_READERS = 2


def traced(module: nn.Module, trained: frozenset[str]) -> Program:
    """The program of a module in training mode.

    Args:
        module: from one tensor to one tensor.
        trained: the names of its trainable parameters.

    Raises:
        NoProgram: it is not a straight line of known kernels.
    """
    program = _Tracing(module, trained).program()
    merged = _merged(program.instructions)
    readers = Counter(place for instruction in merged for place in instruction.reads)
    most = max(readers.values(), default=0)
    if most > _MOST_READERS:
        raise NoProgram(f"one value is read {most} times, and a sum of so many slopes depends on its order")
    return replace(program, instructions=_pooled_first(merged, program.output))


class _Tracing:
    """Reads a module's forward function with `torch.fx`."""

    def __init__(self, module: nn.Module, trained: frozenset[str]) -> None:
        self.module, self.trained = module, trained
        # A tied parameter has one name, whichever layer it is met in.
        held = (*module.named_parameters(), *module.named_buffers())
        self.names = {id(value): name for name, value in held}
        self.places: dict[str, int] = {}
        self.moving: dict[int, bool] = {}
        self.used: set[str] = set()
        self.numbers: set[int] = set()  # slots that hold sizes and the like instead of tensors

    def program(self) -> Program:
        """The instructions in the order of the forward function."""
        if nn.modules.module._has_any_global_hook():
            raise NoProgram("every module has hooks")
        for name, part in self.module.named_modules():
            if any((part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)):
                raise NoProgram(f"{name or 'the module'} has hooks")
            if "forward" in vars(part):
                raise NoProgram(f"{name or 'the module'} was given another forward function")
        graph = graph_of(self.module)
        instructions, output = [], None
        for node in graph.nodes:
            if node.op == "output":
                output = node.args[0]
            elif node.op == "placeholder":
                self._placeholder(node)
            elif not node.users:
                raise NoProgram(f"nobody reads {node.name}")
            else:
                instructions.append(self._instruction(node))
        if not isinstance(output, fx.Node) or output.name not in self.places:
            raise NoProgram("it returns something else than one tensor")
        if self.trained - self.used:
            raise NoProgram(f"{min(self.trained - self.used)} is not used by a layer of its own")
        return Program(tuple(instructions), self.places[output.name], self._signature(graph))

    def _signature(self, graph: fx.Graph) -> str:
        parts = [str(sorted(self.trained))]
        for node in graph.nodes:
            parts.append(str(node.format_node()))
            if node.op == "call_module":
                layer = self.module.get_submodule(str(node.target))
                # What a layer says of itself leaves settings out, as the padding of an average.
                plain = {key: value for key, value in vars(layer).items() if not key.startswith("_")}
                parts.append(f"{layer!r} {sorted(plain.items())} {_own_names(layer, self.names)}")
        return "\n".join(parts)

    def _placeholder(self, node: fx.Node) -> None:
        if self.places:
            if not node.users:  # an argument with a default that nobody reads
                return
            raise NoProgram("it takes more than one input")
        self.places[node.name], self.moving[0] = 0, False

    def _instruction(self, node: fx.Node) -> Instruction:
        kernel, inputs = self._kernel(node)
        reads = tuple(place for place in _slots(inputs) if place not in self.numbers)
        wanted = tuple(self.moving[place] for place in reads)
        names = _parameters(kernel)
        if names & self.used:
            raise NoProgram(f"{min(names & self.used)} is used twice")
        self.used |= names
        number = len(self.places)
        if not reads or node.target in (getattr, "size"):
            self.numbers.add(number)
        moves = number not in self.numbers and (any(wanted) or bool(names & self.trained))
        self.places[node.name], self.moving[number] = number, moves
        return Instruction(kernel, inputs, reads, number, wanted, moves)

    def _kernel(self, node: fx.Node) -> tuple[Kernel, tuple[Any, ...]]:
        inputs = tuple(self._value(value) for value in node.args)
        keywords = {name: self._value(value) for name, value in node.kwargs.items()}
        if any(True for _ in _slots(tuple(keywords.values()))):
            raise NoProgram(f"{node.name} is given a tensor by keyword")
        if node.op == "call_module":
            name = str(node.target)
            return _kernel_of(name, self.module.get_submodule(name), self.names, self.trained), inputs
        if node.target is getattr and inputs[1:] not in (("shape",), ("ndim",)):
            raise NoProgram(f"{node.name} is an attribute that may be a tensor")
        if node.op == "call_function" and node.target in _PLAIN_FUNCTIONS:
            if keywords.get("inplace"):
                raise NoProgram(f"{node.name} writes into its input")
            return Plain(node.target, keywords), inputs
        if node.op == "call_method" and node.target in _PLAIN_METHODS:
            return Plain(_Method(str(node.target)), keywords), inputs
        raise NoProgram(f"{node.op} {node.target} has no kernel here")

    def _value(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return Slot(self.places[value.name])
        if isinstance(value, (list, tuple)):  # torch.fx has lists and tuples of its own
            return (list if isinstance(value, list) else tuple)(self._value(part) for part in value)
        return value


def _kernel_of(name: str, module: nn.Module, names: Mapping[int, str], trained: frozenset[str]) -> Kernel:
    own = _own_names(module, names)
    weight, bias = own.get("weight"), own.get("bias")
    if type(module) is nn.Linear:
        assert weight is not None
        return Linear(weight, bias, trained)
    if type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        assert weight is not None and isinstance(module, nn.modules.conv._ConvNd)
        return _convolution(module, weight, bias, trained)
    if isinstance(module, _BatchNorm) and type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        mean, var, count = (own.get(key) for key in ("running_mean", "running_var", "num_batches_tracked"))
        running = (mean, var, count) if module.track_running_stats else (None, None, None)
        return BatchNorm(weight, bias, trained, running, module.momentum, module.eps)
    if type(module) is nn.LayerNorm:
        return LayerNorm(weight, bias, trained, list(module.normalized_shape), module.eps)
    if type(module) is nn.GroupNorm:
        return GroupNorm(weight, bias, trained, module.num_groups, module.eps)
    if isinstance(module, nn.modules.dropout._DropoutNd) and (type(module) is nn.Dropout or module.p == 0):
        return Plain(_same) if module.p == 0 else Dropout(module.p)
    if type(module) is nn.Identity:
        return Plain(_same)
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return Flatten()
    found = activation(module)
    if found is not None:
        return found
    if type(module) is nn.MaxPool2d and _halves(module):
        return HalvingMaxPool()
    if type(module) in _PLAIN_MODULES and not getattr(module, "inplace", False):
        return Plain(module)
    raise NoProgram(f"{name or 'the module'}, of type {type(module).__name__}, has no kernel here")


def _own_names(layer: nn.Module, names: Mapping[int, str]) -> dict[str, str]:
    """What a layer's own parameters and buffers are called in the network."""
    held = (*layer._parameters.items(), *layer._buffers.items())
    return {key: names[id(value)] for key, value in held if value is not None}


def _convolution(
    module: nn.modules.conv._ConvNd, weight: str, bias: str | None, trained: frozenset[str]
) -> Convolution:
    padding = module.padding
    if padding == "same":
        wide = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(width % 2 for width in wide):
            raise NoProgram("a convolution pads one side more than the other")
        padding = tuple(width // 2 for width in wide)
    if padding == "valid":
        padding = (0,) * len(module.kernel_size)
    if module.padding_mode != "zeros" or isinstance(padding, str):
        raise NoProgram(f"a convolution pads by {module.padding_mode}")
    return Convolution(weight, bias, trained, list(module.stride), list(padding), list(module.dilation), module.groups)


@dataclass(frozen=True)
class _Method:
    name: str

    def __call__(self, x: torch.Tensor, *others: Any, **keywords: Any) -> Any:
        return getattr(x, self.name)(*others, **keywords)


def _halves(module: nn.MaxPool2d) -> bool:
    two = (2, (2, 2))
    plain = module.padding in (0, (0, 0)) and module.dilation in (1, (1, 1))
    return (
        module.kernel_size in two and module.stride in two and plain and not (module.ceil_mode or module.return_indices)
    )


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def _merged(instructions: tuple[Instruction, ...]) -> list[Instruction]:
    """Without those that hand on their input as it is."""
    through: dict[int, int] = {}

    def moved(value: Any) -> Any:
        if isinstance(value, Slot):
            return Slot(through.get(value.number, value.number))
        return type(value)(moved(part) for part in value) if type(value) in (list, tuple) else value

    kept = []
    for instruction in instructions:
        inputs = tuple(moved(value) for value in instruction.inputs)
        last = instruction is instructions[-1]
        if isinstance(instruction.kernel, Plain) and instruction.kernel.function is _same and not last:
            through[instruction.writes] = inputs[0].number
            continue
        reads = tuple(through.get(place, place) for place in instruction.reads)
        kept.append(replace(instruction, inputs=inputs, reads=reads))
    return kept


def _pooled_first(instructions: Sequence[Instruction], output: int) -> tuple[Instruction, ...]:
    """With every ReLU behind the pooling that alone reads it: it then has a quarter of the numbers to look at.

    The largest of the values below which nothing lies is the largest of all, or nothing; and where several are the
    largest, either they are one value or nothing passes back. So no number changes, and no slope.
    """
    found = list(instructions)
    readers = Counter(place for instruction in instructions for place in instruction.reads)
    for place, (first, second) in enumerate(pairwise(instructions)):
        is_relu = isinstance(first.kernel, Activation) and first.kernel.value is torch.relu
        is_alone = second.reads == (first.writes,) and readers[first.writes] == 1 and first.writes != output
        if is_relu and is_alone and isinstance(second.kernel, HalvingMaxPool):
            found[place] = replace(first, kernel=second.kernel)
            found[place + 1] = replace(second, kernel=first.kernel)
    return tuple(found)


def _slots(value: Any) -> list[int]:
    if isinstance(value, Slot):
        return [value.number]
    return [place for part in value for place in _slots(part)] if type(value) in (list, tuple) else []


def _parameters(kernel: Kernel) -> set[str]:
    names = {getattr(kernel, "weight", None), getattr(kernel, "bias", None)}
    return {name for name in names if name is not None}
