"""Losses and gradients anywhere in weight space on random examples: what paths are trained with."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from vallis.core.functional import call, differentiating
from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.numerics.minibatches import Minibatches

# The loss and the gradient ``(P,)`` at a vector ``(P,)``, on some examples.
Slope = Callable[[torch.Tensor], tuple[float, torch.Tensor]]


class RandomSlopes:
    """Gives one `Slope` after the other, each on the next random examples.

    Args:
        objective: the loss surface.
        batch_size: how many examples; None takes all each time.
        rng: chooses them.
        normalised_by_batch: batch normalisation uses the statistics of these examples, as in training; else those that
            are kept.
    """

    def __init__(
        self, objective: Objective, batch_size: int | None, rng: Rng, normalised_by_batch: bool = False
    ) -> None:
        must_be_rng(rng)
        self._objective = objective
        self._size = len(objective.data) if batch_size is None else min(batch_size, len(objective.data))
        self._batches, self._rng, self._epoch = Minibatches(objective, self._size), rng, 0
        self._queue = iter(self._batches.epoch(rng.child("epoch", 0)))
        self._module, self._buffers = objective.module, objective.buffers
        if normalised_by_batch:
            self._module = copy.deepcopy(objective.module)
            for held in self._module.modules():
                if isinstance(held, _BatchNorm):
                    held.train()
            # What the pass remembers goes into a copy.
            self._buffers = {name: value.clone() for name, value in objective.buffers.items()}

    def next(self) -> Slope:
        """The loss and its gradient, on the next examples."""
        batch = next(self._queue, None)
        if batch is None:
            self._epoch += 1
            self._queue = iter(self._batches.epoch(self._rng.child("epoch", self._epoch)))
            batch = next(self._queue)
        objective, module, buffers = self._objective, self._module, self._buffers

        def slope(vector: torch.Tensor) -> tuple[float, torch.Tensor]:
            with differentiating():
                leaves = [part.detach().requires_grad_() for part in objective.point(vector)]
                outputs = call(module, dict(zip(objective.names, leaves, strict=True)), buffers, batch.x)
                loss = objective.loss.mean(outputs, batch.y)
                found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
            return float(loss.detach()), objective.vector(found)

        return slope
