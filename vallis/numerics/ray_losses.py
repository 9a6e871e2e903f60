"""The loss at many points on many rays: in one batched computation for small networks, in place for all others.

A forward pass of a small network is mostly bookkeeping, so there several points are put through at once, their weights
stacked. For others that costs more than it saves: points are made one after the other in one working copy. In both, a
point is given up once the examples seen so far hold more loss than the mean over all of them is asked about: terms that
are never negative only add to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from vallis.core.data import Stream
from vallis.core.errors import VallisError
from vallis.core.likelihood import likelihood_of
from vallis.core.objective import Objective, Point, Term
from vallis.core.progress import track
from vallis.numerics.crossings import Floats, Ints
from vallis.numerics.rays import Parts

# Layers whose stacked products are quicker than one after the other, where they are small.
_STACKED = (nn.Linear, nn.LayerNorm, nn.Embedding)
# A stacked pass works on about so many numbers, which stay in a processor's cache.
_STACKED_NUMBERS = 2**20
_MOST_STACKED = 64
_FEWEST_STACKED = 4
_AGREEMENT = 1e-3


class RayLosses:
    """Losses at ``origin + c d`` for steps c along the directions d of an objective.

    Args:
        objective: the loss surface.
        ceiling: a loss above it need not be told from others above it.
    """

    def __init__(self, objective: Objective, ceiling: float = np.inf) -> None:
        self.objective, self.ceiling = objective, ceiling
        self._bounds = np.isfinite(ceiling) and not isinstance(objective.data, Stream) and _never_negative(objective)
        self.group = _group(objective)
        self._working: list[torch.Tensor] | None = None
        if self.group > 1 and not self._agrees():
            self.group = 1

    def along(self, directions: Parts, rays: Ints, steps: Floats) -> Floats:
        """``(M,)`` the losses; those above the ceiling are some number above it.

        Args:
            directions: ``(K, *shape)`` of each parameter, None where it does not move.
            rays: ``(M,)`` which of the K directions each point lies on.
            steps: ``(M,)`` how far from the origin.
        """
        with torch.no_grad():
            if isinstance(self.objective.data, Stream):
                return self._in_one_pass(directions, rays, steps)
            losses = np.empty(len(rays))
            starts = range(0, len(rays), self.group)
            for start in track(starts, "losses along rays", len(starts)):
                part = slice(start, start + self.group)
                losses[part] = self._some(directions, rays[part], steps[part])
            return losses

    def _some(self, directions: Parts, rays: Ints, steps: Floats) -> Floats:
        """The losses of a group of points, or of a single one."""
        single = self.group == 1
        points = (
            self._moved(directions, int(rays[0]), float(steps[0])) if single else self._stack(directions, rays, steps)
        )
        total = np.zeros(len(rays))
        for term in self.objective.terms():
            found = term.loss(points) if single else _stacked_losses(term, points, directions)
            total += term.share * np.asarray(found.double().cpu().numpy()).reshape(-1)
            if self._bounds and bool((total > self.ceiling).all()):
                break
        return total

    def _in_one_pass(self, directions: Parts, rays: Ints, steps: Floats) -> Floats:
        """Data that must be read anew at every pass are read once, with all points a batch."""
        total = np.zeros(len(rays))
        for term in track(self.objective.terms(), "losses along rays"):
            for place, (ray, step) in enumerate(zip(rays.tolist(), steps.tolist(), strict=True)):
                total[place] += term.share * term.loss(self._moved(directions, ray, step)).double().item()
        return total

    def _moved(self, directions: Parts, ray: int, step: float) -> Point:
        """A point, which is overwritten by the next."""
        if self._working is None:
            self._working = [
                value if part is None else torch.empty_like(value)
                for value, part in zip(self.objective.origin, directions, strict=True)
            ]
        for value, part, place in zip(self.objective.origin, directions, self._working, strict=True):
            if part is not None:
                torch.add(value, part[ray], alpha=step, out=place)
        return self._working

    def _stack(self, directions: Parts, rays: Ints, steps: Floats) -> Point:
        """The points, stacked for each parameter that moves."""
        chosen = torch.from_numpy(rays)
        found = []
        for value, part in zip(self.objective.origin, directions, strict=True):
            if part is None:
                found.append(value)
                continue
            factors = torch.from_numpy(steps).to(value).view(-1, *[1] * value.ndim)
            found.append(torch.addcmul(value, part[chosen.to(part.device)], factors))
        return found

    def _agrees(self) -> bool:
        """Whether a batched pass gives the loss of the network: what it does may not be made for one."""
        still: Parts = tuple(
            value[None].expand(1, *value.shape) if value.ndim > 1 else None for value in self.objective.origin
        )
        try:
            with torch.no_grad():
                stacked = self._some(still, np.zeros(2, dtype=np.int64), np.zeros(2))
                expected = self.objective.value()
        except VallisError:
            raise
        except Exception:  # functions that torch cannot batch raise whatever they like
            return False
        return bool(np.all(np.abs(stacked - expected) <= _AGREEMENT * (1e-3 + abs(expected))))


def _stacked_losses(term: Term, points: Point, directions: Parts) -> torch.Tensor:
    """``(M,)`` the batch's loss at points that are stacked where a parameter moves."""
    axes = tuple(None if part is None else 0 for part in directions)
    found: torch.Tensor = torch.func.vmap(lambda *point: term.loss(point), in_dims=axes)(*points)
    return found


def _group(objective: Objective) -> int:
    """How many points are put through at once."""
    if isinstance(objective.data, Stream):
        return 1
    parts = [part for part in objective.module.modules() if any(True for _ in part.parameters(recurse=False))]
    if not all(type(part) in _STACKED for part in parts):
        return 1
    batch = max(len(batch) for batch in objective.data)
    widest = max(value.shape[0] for value in objective.origin)
    group = min(_MOST_STACKED, _STACKED_NUMBERS // (batch * widest + objective.num_parameters))
    return group if group >= _FEWEST_STACKED else 1


def _never_negative(objective: Objective) -> bool:
    """Whether no batch can lower the sum: a log-likelihood of classes, or squares."""
    likelihood = likelihood_of(objective.loss)
    if likelihood is None:
        return False
    return likelihood.family == "normal" or all(low >= 0 and high <= 1 for low, high in _target_ranges(objective))


def _target_ranges(objective: Objective) -> Iterator[tuple[float, float]]:
    """The least and the largest target of each batch, where they are probabilities; classes are none."""
    for batch in objective.data:
        if isinstance(batch.y, torch.Tensor) and batch.y.is_floating_point() and batch.y.numel():
            yield float(batch.y.min()), float(batch.y.max())
