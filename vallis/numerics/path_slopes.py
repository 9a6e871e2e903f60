"""Losses and gradients anywhere in weight space on random examples: what paths are trained with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from vallis.core.errors import SettingsError
from vallis.core.functional import call, differentiating
from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Batch
from vallis.numerics.batch_statistics import normalises_alone
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
            are kept. An example that stands alone, as at the end of a pass, is left out where it cannot be normalised.

    Raises:
        SettingsError: (`next`) every example would stand alone.
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
        self._normalised = normalised_by_batch
        self._single: bool | None = None  # whether one example can be, once it is asked
        if normalised_by_batch:
            self._module = copy.deepcopy(objective.module)
            for held in self._module.modules():
                if isinstance(held, _BatchNorm):
                    held.train()
            # What the pass remembers goes into a copy.
            self._buffers = {name: value.clone() for name, value in objective.buffers.items()}

    def next(self) -> Slope:
        """The loss and its gradient, on the next examples."""
        batch, alone = self._batch(), 0
        while self._normalised and len(batch) == 1 and not self._takes_one(batch.x):
            if (alone := alone + 1) > len(self._objective.data):
                raise SettingsError(
                    "at least 2 examples in a batch were required for batch normalisation, all stand alone: choose "
                    "another batch_size, or more examples"
                )
            batch = self._batch()
        objective, module, buffers = self._objective, self._module, self._buffers

        def slope(vector: torch.Tensor) -> tuple[float, torch.Tensor]:
            with differentiating():
                leaves = [part.detach().requires_grad_() for part in objective.point(vector)]
                outputs = call(module, dict(zip(objective.names, leaves, strict=True)), buffers, batch.x)
                loss = objective.loss.mean(outputs, batch.y)
                found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
            return float(loss.detach()), objective.vector(found)

        return slope

    def _batch(self) -> Batch:
        batch = next(self._queue, None)
        if batch is None:
            self._epoch += 1
            self._queue = iter(self._batches.epoch(self._rng.child("epoch", self._epoch)))
            batch = next(self._queue)
        return batch

    def _takes_one(self, x: Any) -> bool:
        if self._single is None:
            held = self._objective
            self._single = normalises_alone(copy.deepcopy(self._module).to(held.device, held.dtype), x)
        return self._single
