"""The mean loss over a split as a function of the parameters: the surface everything here is about.

``L(theta) = sum_b w_b L_b(theta) / sum_b w_b`` over batches b with counted weights w_b, so that the result does not
depend on how the examples were batched.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vallis.core import tree
from vallis.core.catalog import unknown
from vallis.core.errors import DataError
from vallis.core.functional import call, differentiating, full_precision
from vallis.core.types import Batch, Data, Solution

Point = Sequence[torch.Tensor]
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class Term:
    """One batch's share of the objective: ``share * loss(point)`` summed over terms is the mean loss.

    Attributes:
        share: w_b / sum_b w_b.
        batch: its examples, on the device and in the dtype of the objective.
    """

    share: float
    batch: Batch
    objective: Objective

    def outputs(self, point: Point) -> Any:
        """What the network returns for the batch at this point."""
        return self.objective.outputs_at(point, self.batch)

    def loss(self, point: Point) -> torch.Tensor:
        """The scalar mean loss of the batch at this point."""
        return self.loss_of_outputs(self.outputs(point))

    def loss_of_outputs(self, outputs: Any) -> torch.Tensor:
        """The scalar mean loss of the batch for these outputs."""
        with full_precision():
            return self.objective.loss.mean(outputs, self.batch.y)


class Objective:
    """The loss surface of a solution over one split.

    A point is a sequence of tensors, one a trainable parameter, in the order of `names`; `vector` and `point` go
    between it and one flat vector ``(P,)``.

    Args:
        solution: whose network, weights and task.
        split: over which examples.
        dtype: compute in this floating type; None keeps the model's own, save half precision, which is raised to
            float32, and a mixture, which is raised to the widest.

    Attributes:
        names: the trainable parameters.
        origin: the solution's own point.
        buffers: everything else the module needs, in the dtype of the objective.
        as_written: which derivatives through functions with a backward pass of their own, for which choices of
            parameters, were compared with differences; see `vallis.numerics.written_backward`.

    Raises:
        UnknownPart: the task has no such split.
    """

    def __init__(self, solution: Solution, split: str = "train", dtype: torch.dtype | None = None) -> None:
        task = solution.task
        if split not in task.splits:
            raise unknown("split", split, task.splits)
        self.data: Data = task.splits[split]
        self.loss = task.loss
        self.module = solution.net.module
        self.names = tuple(solution.params)
        self.device = next(iter(solution.params.values())).device
        trained = [value.dtype for value in solution.params.values()]
        widest = functools.reduce(torch.promote_types, trained)
        self.dtype = dtype or (torch.float32 if widest in _HALF else widest)
        mixed = any(found != self.dtype for found in trained)
        half = any(value.dtype in _HALF for value in solution.buffers.values())
        self._recast = dtype is not None or mixed or half
        with differentiating():
            self.origin = tuple(self._own(value).detach() for value in solution.params.values())
            self.buffers = {name: self._own(value).detach() for name, value in solution.buffers.items()}
        self.num_parameters = sum(value.numel() for value in self.origin)
        self._counted: float | None = None
        self.as_written: frozenset[tuple[str, tuple[bool, ...]]] = frozenset()

    def over(self, data: Data) -> Objective:
        """The same network and loss over other data."""
        other = copy.copy(self)
        other.data, other._counted = data, None
        return other

    def converted(self, dtype: torch.dtype) -> Objective:
        """The same surface, computed in another floating type."""
        other = copy.copy(self)
        other.dtype, other._recast = dtype, True
        with differentiating():
            other.origin = tuple(other._own(value).detach() for value in self.origin)
            other.buffers = {name: other._own(value).detach() for name, value in self.buffers.items()}
        return other

    def at(self, point: Point) -> Objective:
        """The same loss surface around another point."""
        other = copy.copy(self)
        other.origin = tuple(value.detach() for value in point)
        return other

    def batches(self) -> Iterator[Batch]:
        """One pass over the split, on the device and in the dtype of the objective."""
        for batch in self.data:
            yield self.own(batch)

    def own(self, batch: Batch) -> Batch:
        """A batch on the device and in the dtype of the objective."""
        dtype = self.dtype if self._recast else None
        with differentiating():  # a copy made in inference mode could not be differentiated
            x, y = tree.to(batch.x, self.device, dtype), tree.to(batch.y, self.device, dtype)
        return Batch(x=x, y=y, index=batch.index)

    def terms(self) -> Iterator[Term]:
        """One pass over the split, a term a batch; a batch that counts nothing is left out."""
        total = self.total_weight
        for batch in self.batches():
            weight = float(self.loss.weight(batch.y))
            if weight > 0:
                yield Term(weight / total, batch, self)

    @property
    def total_weight(self) -> float:
        """How many units (examples, counted tokens) the mean is over.

        Raises:
            DataError: none counts.
        """
        if not self.counted > 0:
            raise DataError("at least one counted target was required, none came: check weight= or ignore_index")
        return self.counted

    @property
    def counted(self) -> float:
        """How many units count; 0 where none does."""
        if self._counted is None:
            self._counted = float(sum(self.loss.weight(batch.y) for batch in self.data))
        return self._counted

    def counts_as(self, other: Objective) -> None:
        """Takes over what was counted of the same data by the same loss, or counts it for both."""
        self._counted = other.counted

    def outputs_at(self, point: Point, batch: Batch) -> Any:
        """What the network returns for a batch at this point."""
        return call(self.module, dict(zip(self.names, point, strict=True)), self.buffers, batch.x)

    def value(self, point: Point | None = None) -> float:
        """L at this point (the origin if None), summed in float64."""
        at = self.origin if point is None else point
        with torch.no_grad():
            return float(sum(term.share * term.loss(at).double().item() for term in self.terms()))

    def gradient(self, point: Point | None = None) -> torch.Tensor:
        """``(P,)`` the gradient of L."""
        with differentiating():
            total = torch.zeros(self.num_parameters, dtype=self.dtype, device=self.device)
            at = [value.detach().requires_grad_() for value in (self.origin if point is None else point)]
            for term in self.terms():
                loss = term.loss(at)
                if loss.requires_grad:  # else it is constant, and its gradient zero
                    found = torch.autograd.grad(loss, at, allow_unused=True, materialize_grads=True)
                    total += term.share * self.vector(found)
        return total

    def vector(self, point: Point) -> torch.Tensor:
        """``(P,)`` a point as one vector."""
        return torch.cat([value.reshape(-1) for value in point])

    def point(self, vector: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A vector ``(P,)`` as a point."""
        parts = vector.split([value.numel() for value in self.origin])
        return tuple(part.view(value.shape) for part, value in zip(parts, self.origin, strict=True))

    def _own(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self.dtype) if self._recast and value.is_floating_point() else value
