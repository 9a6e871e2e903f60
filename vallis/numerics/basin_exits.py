"""A way out of any basin of a wide network: hidden weights shaken a little, then the last layer to where all is fitted.

With at least N - 1 units before the last layer, hidden weights moved by as little as one likes make the features of the
N examples affinely independent; then the last layer can fit any targets, and on the straight line of last layers the
loss is convex, so that it never exceeds its ends. So from any point leads a way to the bottom whose rise is as low as
one likes: no basin is bad.

Source: Sun et al. (2020), section III, on Li, Ding and Sun (2018), On the benefit of width for neural networks:
    disappearance of bad basins.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from vallis.core.capture import capture
from vallis.core.errors import ModelError
from vallis.core.functional import differentiating
from vallis.core.objective import Objective
from vallis.core.rng import Rng, must_be_rng
from vallis.core.types import Batch
from vallis.numerics.paths import Floats
from vallis.numerics.regression_targets import regression_targets
from vallis.numerics.slices import line

# Scores for the classes at the end of the way: the loss there is about (C - 1) exp(-12), 6e-6 for two classes.
_SURE = 12.0
# Of a loss that other scores make lower by more than this, such as a smoothed one, these are the end.
_LOWER = 1e-3
_MOST_STEPS = 200
# Two ways to compute one loss in float32 agree to such a share of the losses on the way, and so much besides.
_ALIKE, _ROUNDING = 1e-3, 1e-5


@dataclass(frozen=True, eq=False)
class Exit:
    """A way of two legs.

    Attributes:
        shake: how far the hidden weights moved, as a share of their norms.
        rank: of the features with a column of ones; N certifies the exit.
        num_examples: N.
        first: ``(T,)`` losses on the leg of the hidden weights.
        second: ``(T,)`` losses on the leg of the last layer.
        price: the norm of the last layer at the end.
    """

    shake: float
    rank: int
    num_examples: int
    first: Floats
    second: Floats
    price: float

    @property
    def certified(self) -> bool:
        """Whether the last layer can fit all examples."""
        return self.rank == self.num_examples

    @property
    def barrier(self) -> float:
        """By how much the loss rises above its start on the whole way."""
        return float(max(self.first.max(), self.second.max()) - self.first[0])

    @property
    def end(self) -> float:
        """The loss at the end."""
        return float(self.second[-1])

    @property
    def monotone(self) -> bool:
        """Whether the loss never rises on the second leg, up to rounding, before its lowest point."""
        lowest = int(self.second.argmin())
        return bool((np.diff(self.second[: lowest + 1]) <= 1e-9 * (1 + abs(self.second[0]))).all())


def last_layer(objective: Objective) -> str:
    """The name of the linear layer whose output is what the network returns.

    Raises:
        ModelError: there is none.
    """
    linear = [
        str(name)
        for name, part in objective.module.named_modules()
        if type(part) is torch.nn.Linear and f"{name}.weight".lstrip(".") in objective.names
    ]
    batch = next(objective.batches())
    params = dict(zip(objective.names, objective.origin, strict=True))
    with torch.no_grad():
        returned = objective.loss.scores(objective.outputs_at(objective.origin, batch))
        seen = capture(objective.module, params, objective.buffers, batch.x, linear)
    for name in reversed(linear):
        if returned is not None and name in seen and torch.equal(seen[name][1], returned):
            return name
    raise ModelError(
        "a network that returns what a linear layer gives was required, none of its layers does: end it in nn.Linear"
    )


def leave(objective: Objective, *, shake: float, rng: Rng, num_points: int = 41) -> Exit:
    """The way out, for one size of the shake.

    Args:
        objective: the loss surface, best in float64; N are its examples.
        shake: how far the hidden weights move, as a share of the norm of each tensor.
        rng: where to.
        num_points: on each leg.

    Raises:
        ModelError: the network does not end in a linear layer with a bias, or reads its weights elsewhere, too.
    """
    must_be_rng(rng)
    layer = last_layer(objective)
    weight, bias = f"{layer}.weight".lstrip("."), f"{layer}.bias".lstrip(".")
    if bias not in objective.names:
        raise ModelError(f"a last layer with a bias was required, {layer} has none: give it one")
    moved = [_shaken(value, shake, rng.child(name)) if name not in (weight, bias) else torch.zeros_like(value)
             for name, value in zip(objective.names, objective.origin, strict=True)]  # fmt: skip
    along = np.linspace(0, 1, num_points)
    first = line(objective, moved, along)
    there = copy.copy(objective)
    there.origin = tuple(value + step for value, step in zip(objective.origin, moved, strict=True))
    features, batch = _features(there, layer)
    before = torch.cat([there.origin[there.names.index(weight)].T, there.origin[there.names.index(bias)][None]])
    ones = torch.cat([features, torch.ones(len(features), 1, dtype=features.dtype)], dim=1)
    aims = _aims(objective, batch, before.shape[1])
    after = torch.linalg.lstsq(ones.double(), aims, driver="gelsd").solution.to(before)
    reached = _loss(objective, batch, ones @ after)
    _must_be_apart(there, layer, {weight: after[:-1].T, bias: after[-1]}, reached, _ALIKE * (abs(first[0]) + reached))
    second = []
    with torch.no_grad():
        for t in along.tolist():
            outputs = ones @ torch.lerp(before, after, t)
            second.append(float(objective.loss.mean(outputs, batch.y)))
    # Rounding makes any features independent; of lower precision it must not be taken for what they are.
    rounding = max(ones.shape) * torch.finfo(ones.dtype).eps
    rank = int(torch.linalg.matrix_rank(ones.double(), rtol=rounding))
    return Exit(shake, rank, len(features), first, np.array(second), float(after.norm()))


def _shaken(value: torch.Tensor, shake: float, rng: Rng) -> torch.Tensor:
    noise = torch.randn(value.shape, generator=rng.torch(), dtype=torch.float64)
    size = float(value.norm()) or 1.0
    moved: torch.Tensor = noise * (shake * size / max(float(noise.norm()), 1e-300))
    return moved.to(value)


def _features(objective: Objective, layer: str) -> tuple[torch.Tensor, Batch]:
    """``(N, m)`` what the last layer is given for all examples, and the examples in one batch."""
    rows, batches = [], list(objective.batches())
    params = dict(zip(objective.names, objective.origin, strict=True))
    with torch.no_grad():
        for batch in batches:
            rows.append(capture(objective.module, params, objective.buffers, batch.x, [layer])[layer][0][0])
    y = torch.cat([batch.y for batch in batches])
    return torch.cat(rows).reshape(len(y), -1), replace(
        batches[0], x=None, y=y, index=torch.cat([batch.index for batch in batches])
    )


def _must_be_apart(
    objective: Objective, layer: str, last: Mapping[str, torch.Tensor], expected: float, tolerance: float
) -> None:
    """Lets a last layer pass whose weights are read nowhere else: else what it is given moves with them."""
    point = [last.get(name, value) for name, value in zip(objective.names, objective.origin, strict=True)]
    found = objective.value(point)
    if abs(found - expected) > tolerance + _ROUNDING:
        raise ModelError(
            f"a last layer whose weights are read nowhere else was required, with other weights of {layer or 'it'} the "
            f"loss is {found:.3g} in place of {expected:.3g}: untie them"
        )


def _aims(objective: Objective, batch: Batch, width: int) -> torch.Tensor:
    """``(N, C)`` the outputs at which the loss is at, or next to, its lowest; C is the width of the last layer."""
    (values,) = regression_targets(objective.loss, [batch.y.cpu()])
    if objective.loss.kind == "other":
        return values
    outputs = _SURE * values
    if outputs.shape[1] < width:  # a network may have more classes than the examples show
        outputs = torch.nn.functional.pad(outputs, (0, width - outputs.shape[1]))
    reached = _loss(objective, batch, outputs)
    if reached <= _LOWER:  # as of cross-entropy and hinges
        return outputs
    found = _lowest(objective, batch, torch.zeros_like(outputs))
    return found if reached - _loss(objective, batch, found) > _LOWER else outputs


def _lowest(objective: Objective, batch: Batch, start: torch.Tensor) -> torch.Tensor:
    """``(N, C)`` scores that have been brought down the loss, which is convex in them."""
    with differentiating():
        free = start.clone().requires_grad_()
        descent = torch.optim.LBFGS([free], max_iter=_MOST_STEPS, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            descent.zero_grad()
            loss = objective.loss.mean(free, batch.y)
            torch.autograd.backward(loss, inputs=[free])
            return loss

        descent.step(closure)
    return free.detach()


def _loss(objective: Objective, batch: Batch, outputs: torch.Tensor) -> float:
    with torch.no_grad():
        return float(objective.loss.mean(outputs, batch.y))
