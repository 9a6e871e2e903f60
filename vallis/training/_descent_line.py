"""Gradients of a network that is a straight line of kernels, with its weights laid out as one vector.

Everything here has the bits of autograd and of an optimizer over the parameters one by one: the kernels are the same,
and an optimizer that treats each number alone does not mind how they are laid out. It is only quicker. (The length that
`clip_norm` looks at is that of one vector, where torch adds up the lengths of many: its last bit may differ.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from vallis.core.losses import CrossEntropy, Loss
from vallis.core.own_loss import Picked
from vallis.core.poisoned_losses import PoisonedLoss
from vallis.core.types import Batch, Task
from vallis.numerics.batched_losses import NLL_MEANS
from vallis.numerics.program import Program
from vallis.numerics.program_kernels import Weights
from vallis.numerics.program_known import program_of
from vallis.numerics.same_bits import chosen
from vallis.numerics.stacked import Stacked, aligned

# Each number is changed by itself, whatever stands beside it.
_ELEMENTWISE = frozenset(
    {"SGD", "ASGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "Rprop"}
)
# Numbers of 16 bits are rounded otherwise at the end of a vector than within it.
_EVEN = (torch.float32, torch.float64)

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
        splits = [task.splits["train"] for task in tasks]
        some = [split.take(_FEW % len(split)).x for split in splits]
        single = all(isinstance(x, torch.Tensor) for x in some)
        if optimizer not in _ELEMENTWISE or not single or not _fit_one_vector(params.values()):
            return None
        program = program_of(module, tuple(params), some)
        if program is None:
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
        places = self.views(values)
        for name, parameter in self.params.items():
            parameter.data = places[name].copy_(parameter.data)
        self.flat.data, self.flat.grad, self.weights.slopes = values, slopes, self.views(slopes)

    def views(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        """What lies in a vector ``(P',)``, or in each of K vectors ``(K, P')``, where the parameters do, by name."""
        places, start = {}, 0
        for name, parameter in self.params.items():
            part = vectors[..., start : start + parameter.numel()]
            places[name] = part.unflatten(-1, parameter.shape) if parameter.ndim else part.squeeze(-1)
            start += aligned(parameter.numel(), parameter.dtype)
        return places

    def gradients(self, loss: Loss, batch: Batch, generator: torch.Generator | None) -> tuple[torch.Tensor, Any]:
        """The mean loss of the batch and what the network returned; the gradient lies in ``flat.grad``."""
        self.weights.generator = generator
        with torch.no_grad():
            outputs, tape = self.program.forward(self.weights, batch.x)
            value, slope = slope_of(loss, outputs, batch.y)
            self.program.backward(self.weights, tape, slope)
        return value, outputs


def is_plain(x: torch.Tensor) -> bool:
    """Whether it lies in memory as a new tensor would; kernels choose their ways by the layout."""
    return x.stride() == torch.empty(x.shape, device="meta").stride()


def _fit_one_vector(params: Iterable[torch.Tensor]) -> bool:
    """Whether parameters are what they are for kernels and optimizers, each a part of one vector."""
    kinds = {(value.dtype, value.device.type) for value in params}
    return len(kinds) == 1 and kinds <= {(kind, "cpu") for kind in _EVEN} and all(map(is_plain, params))


# What a program is proved on: enough for batch normalisation.
_FEW = torch.arange(4)


def slope_of(loss: Loss, outputs: torch.Tensor, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss and its derivative with respect to the outputs."""
    plain = _plain(loss, outputs, y)
    if plain is not None:
        chances = torch.log_softmax(outputs, 1)
        value, counted = aten.nll_loss_forward(chances, y, None, 1, plain.ignore_index)
        slope = aten.nll_loss_backward(torch.ones_like(value), chances, y, None, 1, plain.ignore_index, counted)
        return value, aten._log_softmax_backward_data(slope, chances, 1, outputs.dtype)
    if isinstance(loss, PoisonedLoss) and isinstance(loss.base, CrossEntropy) and outputs.ndim == 2:
        return loss.mean_and_slope(outputs, y)
    leaf = outputs.detach().requires_grad_()
    with torch.enable_grad():
        value = loss.mean(leaf, y)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def entropy_of(loss: Loss) -> CrossEntropy | None:
    """The cross-entropy that this is, of the outputs as they come; None for any other loss."""
    if type(loss) is Picked and loss.pick is None:
        loss = loss.loss
    return loss if type(loss) is CrossEntropy else None


def slopes_of(loss: Loss, outputs: Stacked, targets: torch.Tensor) -> tuple[list[float], Stacked]:
    """The mean loss of each member, and the derivatives with respect to their outputs.

    Args:
        loss: of all.
        outputs: of K members.
        targets: ``(K, B, ...)``.
    """
    plain = _plain(loss, outputs.members[0], targets[0])
    if plain is None:
        found = [slope_of(loss, scores, y) for scores, y in zip(outputs.members, targets, strict=True)]
        return torch.stack([value for value, _ in found]).tolist(), Stacked.apart([slope for _, slope in found])
    # Row by row there is nothing that a member's neighbours could change.
    rows = outputs.whole.reshape(-1, outputs.shape[-1])
    chances = torch.log_softmax(rows, 1)
    total = rows.new_zeros(())
    if _all_count(targets, rows.shape[1], plain.ignore_index):
        picked = chances.gather(1, targets.reshape(-1, 1)).view(targets.shape)
        values = rows.new_empty(len(targets))
        chosen(NLL_MEANS, picked, values)(picked, values)
        shares = rows.new_full((len(rows),), targets.shape[1]).reciprocal_()
    else:
        each = zip(chances.view(len(targets), *outputs.shape).unbind(), targets.unbind(), strict=True)
        values = torch.stack([F.nll_loss(own, y, ignore_index=plain.ignore_index) for own, y in each])
        shares = (targets != plain.ignore_index).sum(1).to(rows.dtype).reciprocal_().repeat_interleave(targets.shape[1])
    slope = aten.nll_loss_backward(shares, chances, targets.reshape(-1), None, 0, plain.ignore_index, total)
    slope = aten._log_softmax_backward_data(slope, chances, 1, rows.dtype)
    return values.tolist(), Stacked.of_whole(slope.view(len(targets), *outputs.shape))


def _all_count(targets: torch.Tensor, num_classes: int, ignored: int) -> bool:
    """Whether every target is a class, and none is to be ignored."""
    least, most = (int(bound) for bound in targets.aminmax())
    if not 0 <= least <= most < num_classes:
        return False
    return not least <= ignored <= most or not bool((targets == ignored).any())


def _plain(loss: Loss, outputs: torch.Tensor, y: Any) -> CrossEntropy | None:
    """The cross-entropy of classes that needs no more than two of torch's kernels, with targets that it can take."""
    entropy = entropy_of(loss)
    if entropy is None or entropy.label_smoothing or outputs.ndim != 2:
        return None
    if not isinstance(y, torch.Tensor) or y.dtype != torch.int64 or y.shape != outputs.shape[:1]:
        return None
    return entropy
