"""Batch normalisation at a new point of weight space: running statistics computed anew from training examples.

The statistics that a network brought along belong to its own weights. Between two networks they fit neither, and the
loss there says more of that than of the weights (Garipov et al. 2018, section 3: they are to be computed anew at every
point of a path). All examples go through as one batch, so the statistics do not depend on how the data were batched.

Source: Garipov et al. (2018), Loss surfaces, mode connectivity, and fast ensembling of DNNs, section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from vallis.core import tree
from vallis.core.data import subset
from vallis.core.functional import arguments, call, preserving_global_state
from vallis.core.objective import Objective, Point
from vallis.core.rng import Rng, must_be_rng


class BatchStatistics:
    """Running statistics of a network for any weights.

    Args:
        objective: whose network, and whose examples the statistics are those of; it is left as it is.
        max_examples: of more examples a random part of this size is taken.
        rng: chooses the part.

    Raises:
        DataError: the examples have no random access.
    """

    def __init__(self, objective: Objective, max_examples: int = 1024, rng: Rng | None = None) -> None:
        if rng is not None:
            must_be_rng(rng)
        part = subset(objective.data, max_examples, rng or Rng())
        batch = part.take(torch.arange(len(part)))
        self._x = tree.to(batch.x, objective.device, objective.dtype)
        self._names = objective.names
        self._module = copy.deepcopy(objective.module)
        for held in self._module.modules():
            if isinstance(held, _BatchNorm) and held.track_running_stats:
                held.train()
                held.momentum = 1.0  # what is remembered is this batch alone
        self._before = objective.buffers
        self._buffers = {name: value.clone() for name, value in objective.buffers.items()}

    def at(self, point: Point, others: Mapping[str, torch.Tensor] | None = None) -> Mapping[str, torch.Tensor]:
        """The buffers with the statistics of these weights; they are overwritten by the next.

        Args:
            point: the weights.
            others: all buffers, of which those that are no statistics are kept; None takes the objective's own.
        """
        for name, value in (self._before if others is None else others).items():
            self._buffers[name].copy_(value)
        with torch.no_grad():
            call(self._module, dict(zip(self._names, point, strict=True)), self._buffers, self._x)
        return self._buffers


def statistics_of(module: torch.nn.Module) -> frozenset[str]:
    """The names of the buffers that are running statistics of batches."""
    kept = ("running_mean", "running_var", "num_batches_tracked")
    return frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, held in module.named_modules()
        if isinstance(held, _BatchNorm)
        for name in kept
    )


def normalises_batches(objective: Objective) -> bool:
    """Whether the network keeps running statistics of batches."""
    return any(isinstance(held, _BatchNorm) and held.track_running_stats for held in objective.module.modules())


def normalises_alone(module: torch.nn.Module, x: Any) -> bool:
    """Whether a network in training mode takes a batch of one example: its normalisations need two values a channel.

    Args:
        module: it is left as it is.
        x: the inputs of one example.
    """
    alone = copy.deepcopy(module).train()
    try:
        with preserving_global_state(), torch.no_grad():
            args, kwargs = arguments(alone, x)
            alone(*args, **kwargs)
    except ValueError:
        return False
    return True


def at_own_statistics(objective: Objective, buffers: Mapping[str, torch.Tensor]) -> Objective:
    """The same loss surface with these buffers."""
    other = copy.copy(objective)
    other.buffers = dict(buffers)
    return other
