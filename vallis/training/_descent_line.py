"""Gradients of a network that is a straight line of kernels, with its weights laid out as one vector.

Everything here has the bits of autograd and of an optimizer over the parameters one by one: the kernels are the same,
and an optimizer that treats each number alone does not mind how they are laid out. It is only quicker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vallis.core.losses import CrossEntropy, Loss
from vallis.core.types import Batch, Task
from vallis.numerics.program import Program
from vallis.numerics.program_kernels import Weights
from vallis.numerics.program_stack import Stacked, aligned
from vallis.numerics.program_tracing import NoProgram, traced

# Each number is changed by itself, whatever stands beside it.
_ELEMENTWISE = frozenset(
    {"SGD", "ASGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "Rprop"}
)

aten = torch.ops.aten


@dataclass(kw_only=True, eq=False)
class Line:
    """A network's program beside its weights.

    Attributes:
        program: of the module in training mode.
        weights: parameters, buffers and gradients by name; the trainable ones are views of `flat` and of its gradient.
        flat: ``(P',)`` all trainable parameters, each beginning where a tensor of its own would; P' counts the gaps.
    """

    program: Program
    weights: Weights
    flat: nn.Parameter
    params: Mapping[str, nn.Parameter]

    @staticmethod
    def of(module: nn.Module, params: Mapping[str, nn.Parameter], tasks: Iterable[Task], optimizer: str) -> Line | None:
        """The line of a module, whose parameters become views of one vector; None where autograd must do it."""
        kinds = {(value.dtype, value.device.type) for value in params.values()}
        single = all(isinstance(task.splits["train"].take(_FIRST).x, torch.Tensor) for task in tasks)
        if optimizer not in _ELEMENTWISE or not single or len(kinds) != 1 or kinds.pop()[1] != "cpu":
            return None
        try:
            program = traced(module, frozenset(params))
        except NoProgram:
            return None
        first = next(iter(params.values()))
        size = sum(aligned(value.numel(), value.dtype) for value in params.values())
        flat = nn.Parameter(torch.zeros(size, dtype=first.dtype))
        values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        line = Line(program=program, weights=Weights(values, {}), flat=flat, params=params)
        line.lay_out(flat.data, torch.zeros_like(flat))
        return line

    def lay_out(self, values: torch.Tensor, slopes: torch.Tensor) -> None:
        """Moves the parameters into one vector ``(P',)``, and their gradients into another."""
        places, start = {}, 0
        for name, parameter in self.params.items():
            view = slice(start, start + parameter.numel())
            start += aligned(parameter.numel(), parameter.dtype)
            values[view].view(parameter.shape).copy_(parameter.data)
            parameter.data = values[view].view(parameter.shape)
            places[name] = slopes[view].view(parameter.shape)
        self.flat.data, self.flat.grad, self.weights.slopes = values, slopes, places

    def gradients(self, loss: Loss, batch: Batch, generator: torch.Generator | None) -> tuple[torch.Tensor, Any]:
        """The mean loss of the batch and what the network returned; the gradient lies in ``flat.grad``."""
        self.weights.generator = generator
        with torch.no_grad():
            outputs, tape = self.program.forward(self.weights, batch.x)
            value, slope = slope_of(loss, outputs, batch.y)
            self.program.backward(self.weights, tape, slope)
        return value, outputs


_FIRST = torch.zeros(1, dtype=torch.int64)


def slope_of(loss: Loss, outputs: torch.Tensor, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss and its derivative with respect to the outputs."""
    if isinstance(loss, CrossEntropy) and _is_plain(loss, outputs, y):
        chances = torch.log_softmax(outputs, 1)
        value, counted = aten.nll_loss_forward(chances, y, None, 1, loss.ignore_index)
        slope = aten.nll_loss_backward(torch.ones_like(value), chances, y, None, 1, loss.ignore_index, counted)
        return value, aten._log_softmax_backward_data(slope, chances, 1, outputs.dtype)
    leaf = outputs.detach().requires_grad_()
    with torch.enable_grad():
        value = loss.mean(leaf, y)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def slopes_of(loss: Loss, outputs: Stacked, targets: Sequence[torch.Tensor]) -> tuple[list[float], Stacked]:
    """The mean loss of each member, and the derivatives with respect to their outputs."""
    if not (isinstance(loss, CrossEntropy) and _is_plain(loss, outputs.members[0], targets[0])):
        found = [slope_of(loss, scores, y) for scores, y in zip(outputs.members, targets, strict=True)]
        return torch.stack([value for value, _ in found]).tolist(), Stacked.of([slope for _, slope in found])
    # Row by row there is nothing that a member's neighbours could change.
    rows, y = outputs.whole.reshape(-1, outputs.shape[-1]), torch.cat(tuple(targets))
    chances = torch.log_softmax(rows, 1)
    values, weights = [], []
    for own, target in zip(chances.view(len(targets), *outputs.shape), targets, strict=True):
        value, counted = aten.nll_loss_forward(own, target, None, 1, loss.ignore_index)
        values.append(value)
        weights.append(counted)
    shares = torch.stack(weights).reciprocal_().repeat_interleave(len(targets[0]))
    total = rows.new_zeros(())
    slope = aten.nll_loss_backward(shares, chances, y, None, 0, loss.ignore_index, total)
    slope = aten._log_softmax_backward_data(slope, chances, 1, rows.dtype)
    return torch.stack(values).tolist(), Stacked.of_whole(slope.view(len(targets), *outputs.shape))


def _is_plain(loss: CrossEntropy, outputs: torch.Tensor, y: Any) -> bool:
    plain = type(loss) is CrossEntropy and not loss.label_smoothing
    return plain and outputs.ndim == 2 and isinstance(y, torch.Tensor) and not y.is_floating_point()
