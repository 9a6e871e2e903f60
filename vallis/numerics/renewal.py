"""Running statistics of batch normalisation, estimated anew at a point of weight space.

Along a path or on a plane the statistics that belong to the network in the middle are wrong elsewhere, and a loss that
is computed with them may rise for that alone.

Source: Garipov et al. (2018), Loss surfaces, mode connectivity, and fast ensembling of DNNs, section 4; Izmailov et al.
    (2018), Averaging weights leads to wider optima and better generalization, section 3.2.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from vallis.core.functional import call
from vallis.core.objective import Objective, Point


def has_statistics(module: torch.nn.Module) -> bool:
    """Whether there is batch normalisation with running statistics in it."""
    return any(isinstance(part, _BatchNorm) and part.track_running_stats for part in module.modules())


class Renewal:
    """Estimates the running statistics at any point from the examples of an objective; the network is left alone.

    Each is the mean over batches of the statistic of the batch, weighted by how many examples it has, so that a short
    last batch counts for what it is; batches of one example are left out.

    Args:
        objective: the loss over the examples to estimate from, as a rule those of training.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._module = copy.deepcopy(objective.module).eval()
        self._names: list[str] = []
        self._parts: list[_BatchNorm] = []
        for name, part in self._module.named_modules():
            if isinstance(part, _BatchNorm) and part.track_running_stats:
                part.train()
                self._parts.append(part)
                kept = ("running_mean", "running_var", "num_batches_tracked")
                self._names += [f"{name}.{buffer}" if name else buffer for buffer in kept]

    def buffers(self, point: Point) -> Mapping[str, torch.Tensor]:
        """All buffers by name, with the statistics of this point."""
        held = dict(self._objective.buffers)
        for name in self._names:
            # A fresh start: the first batch then counts wholly, and each that follows for its share of those so far.
            held[name] = torch.zeros_like(held[name])
        params = dict(zip(self._objective.names, point, strict=True))
        num_seen = 0
        with torch.no_grad():
            for batch in self._objective.batches():
                if len(batch) < 2:
                    continue
                num_seen += len(batch)
                for part in self._parts:
                    part.momentum = len(batch) / num_seen
                call(self._module, params, held, batch.x)
        return held

    def at(self, objective: Objective, point: Point) -> Objective:
        """The objective (over whatever examples) with the statistics of this point."""
        other = copy.copy(objective)
        other.buffers = dict(self.buffers(point))
        return other
