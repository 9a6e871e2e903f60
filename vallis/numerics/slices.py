"""The loss along a line or on a plane through a point of weight space.

Every grid point is computed afresh as ``origin + a d (+ b e)`` in one working copy: nothing adds up from point to
point, no point costs a clone, and the origin has the loss of the network bit for bit. What is not finite is kept so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vallis.core.data import Stream
from vallis.core.errors import LossError, UsageError
from vallis.core.losses import CrossEntropy, Loss
from vallis.core.objective import Objective, Point
from vallis.core.own_loss import Picked
from vallis.core.progress import track
from vallis.core.types import Batch
from vallis.numerics.renewal import Renewal
from vallis.numerics.straight import Straight

_MOST_ROWS = 2048

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Losses with the error bars of the choice of examples.

    Attributes:
        losses: ``(n,)``.
        errors: ``(n,)`` the standard error of each loss.
        rise_errors: ``(n,)`` that of its difference to the loss at the origin, over the same examples: usually far
            smaller, for what makes an example hard makes it so everywhere.
    """

    losses: Floats
    errors: Floats
    rise_errors: Floats


def line(objective: Objective, direction: Point, coefficients: Sequence[float] | Floats) -> Floats:
    """``(n,)`` the losses at ``origin + a direction`` for the coefficients a ``(n,)``.

    Args:
        objective: the loss surface.
        direction: a tensor a parameter, as in `Objective.origin`.
        coefficients: a.

    Raises:
        UsageError: the direction has other shapes than the parameters.
    """
    return Landscape(objective, [direction]).losses([(float(a),) for a in coefficients], "line")


def plane(
    objective: Objective, first: Point, second: Point, x: Sequence[float] | Floats, y: Sequence[float] | Floats
) -> Floats:
    """``(len(y), len(x))`` the losses at ``origin + x first + y second``.

    Raises:
        UsageError: a direction has other shapes than the parameters.
    """
    points = [(float(a), float(b)) for b in y for a in x]
    return Landscape(objective, [first, second]).losses(points, "plane").reshape(len(y), len(x))


class Landscape:
    """The loss at points ``origin + a_1 d_1 + a_2 d_2 ...``.

    Points that differ in a_1 only should follow one another: the rest of the sum is then kept.

    Args:
        objective: the loss surface; data other than streams are read once and held.
        directions: d_1, d_2 ..., each a tensor a parameter.
        renewal: estimates the statistics of batch normalisation anew at every point; the loss at the origin is then
            that with statistics estimated there. None leaves the network's own.

    Raises:
        UsageError: a direction has other shapes than the parameters.
    """

    def __init__(self, objective: Objective, directions: Sequence[Point], renewal: Renewal | None = None) -> None:
        for direction in directions:
            _must_fit(objective, direction)
        self.objective, self._renewal = objective, renewal
        ways = [[p.to(v) for p, v in zip(d, objective.origin, strict=True)] for d in reversed(directions)]
        self._centre: tuple[torch.Tensor, torch.Tensor] | None = None
        if isinstance(objective.data, Stream):
            self._batches: list[Batch] = []
            self._straight = None
        else:
            total = objective.total_weight
            self._straight = Straight.of(objective) if renewal is None else None
            batches = [batch for batch in objective.batches() if objective.loss.weight(batch.y) > 0]
            plain = self._straight is not None and plain_cross_entropy(objective.loss, batches)
            self._batches = _merged(batches) if plain else batches
            self._shares = [objective.loss.weight(batch.y) / total for batch in self._batches]
            self._by_classes = plain and self._straight is not None and self._straight.ends_in_columns
            self._rooms: list[dict[int, torch.Tensor]] = [{} for _ in self._batches]
        with torch.no_grad():
            self._lay_out(ways)

    def losses(self, points: Sequence[Sequence[float]], label: str = "points") -> Floats:
        """``(n,)`` the losses at these points ``(n, k)``.

        Data that must be read anew at every pass are read once, with all points a batch.
        """
        found = np.zeros(len(points))
        if not isinstance(self.objective.data, Stream):
            for place in track(range(len(points)), label, len(points)):
                found[place] = self.loss(points[place])
            return found
        with torch.no_grad():
            for term in track(self.objective.terms(), label):
                for place, steps in enumerate(points):
                    at = self._moving.to(list(reversed(steps)))
                    if self._renewal is not None:
                        term = replace(term, objective=self._renewal.at(self.objective, at))
                    found[place] += term.share * term.loss(at).double().item()
        return found

    def loss(self, steps: Sequence[float]) -> float:
        """The loss at ``origin + sum_k steps[k] directions[k]``; at the origin that of the network, to the last bit."""
        if not any(steps) and self._renewal is None:
            return self.objective.value(self.objective.origin)
        total = 0.0
        with torch.no_grad():
            for share, (outputs, batch) in zip(self._shares, self._outputs(steps), strict=True):
                total += share * self._mean(outputs, batch.y).double().item()
        return total

    def spread(self, points: Sequence[Sequence[float]], label: str = "points", of: int | None = None) -> Spread:
        """The losses at these points, with error bars over the examples.

        Args:
            points: ``(n, k)``.
            label: of the progress.
            of: how many examples those of the objective were chosen from, at random and each at most once; the loss
                that is estimated is that of all of these. None takes them for a few of a distribution.

        Raises:
            LossError: the loss cannot be taken apart into examples, or the data are a stream.
        """
        if not self._batches:
            raise LossError("data in memory were required for error bars, a stream came: give tensors or a Dataset")
        centre, weights = self._each([0.0] * len(points[0])) if len(points) else (torch.zeros(0), torch.zeros(0))
        found = np.zeros((3, len(points)))
        known = 0.0 if of is None else min(1.0, len(self.objective.data) / of)
        for place in track(range(len(points)), label, len(points)):
            losses, _ = self._each(points[place])
            found[:, place] = (
                float((weights * losses).sum() / weights.sum()) if any(points[place]) else self.loss(points[place]),
                error_of(losses, weights),
                error_of(losses - centre, weights),
            )
        found[1:] *= math.sqrt(1 - known)  # what was chosen is known, and only the rest left to chance
        return Spread(losses=found[0], errors=found[1], rise_errors=found[2])

    def _lay_out(self, ways: Sequence[Sequence[torch.Tensor]]) -> None:
        """What moves: the parameters, and the answers of the first layer in place of its weights."""
        objective, straight = self.objective, self._straight
        named = dict(zip(objective.names, objective.origin, strict=True))
        self._names, self._answers = list(objective.names), None
        if straight is None or not straight.keeps_first(self._batches, named):
            self._moving = Moving(objective.origin, ways)
            return
        held = [dict(zip(objective.names, row, strict=True)) for row in (objective.origin, *ways)]
        self._names = [name for name in self._names if name not in straight.first_names]
        starts, *ways = [[row[name] for name in self._names] for row in held]
        self._moving = Moving(starts, ways)
        self._answers = [_Answers([straight.answer(row, batch) for row in held]) for batch in self._batches]

    def _outputs(self, steps: Sequence[float]) -> Iterator[tuple[Any, Batch]]:
        """What the network returns for each batch, which the next writes over."""
        turned = list(reversed(steps))
        at = self._moving.to(turned)
        if self._straight is None:
            here = self.objective if self._renewal is None else self._renewal.at(self.objective, at)
            yield from ((here.outputs_at(at, batch), batch) for batch in self._batches)
            return
        params = dict(zip(self._names, at, strict=True))
        # One batch after the other, so that what was computed last is still near.
        for place, (batch, room) in enumerate(zip(self._batches, self._rooms, strict=True)):
            answer = None if self._answers is None else self._answers[place].to(turned)
            yield self._straight.outputs(params, batch, answer, room, self._by_classes), batch

    def _mean(self, outputs: Any, y: Any) -> torch.Tensor:
        if not self._by_classes:
            return self.objective.loss.mean(outputs, y)
        # torch's softmax takes rows of few classes one by one; along columns it is ten times as quick.
        columns = outputs.t()
        losses: torch.Tensor = torch.logsumexp(columns, 0) - columns.gather(0, y[None])[0]
        return losses.mean()

    def _each(self, steps: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """``(N,)`` float64 the losses of the examples, and their weights."""
        with torch.no_grad():
            found = [self.objective.loss.per_example(outputs, batch.y) for outputs, batch in self._outputs(steps)]
        losses, weights = (torch.cat([pair[place].double() for pair in found]) for place in (0, 1))
        return losses, weights


class Moving:
    """A point that moves along directions; the sum of all but the last step is kept while only that changes.

    Args:
        origin: the tensors it is made of.
        directions: for each as many.
    """

    def __init__(self, origin: Sequence[torch.Tensor], directions: Sequence[Sequence[torch.Tensor]]) -> None:
        self._directions = directions
        self._levels = [list(origin), *([torch.empty_like(value) for value in origin] for _ in directions)]
        self._steps: list[float | None] = [None] * len(directions)

    def to(self, steps: Sequence[float]) -> list[torch.Tensor]:
        """The point at these steps along the directions; it is overwritten by the next."""
        if not any(steps):
            return self._levels[0]  # not a copy: kernels may round by where in memory a tensor lies
        for level, step in enumerate(steps):
            if self._steps[level] == step:
                continue
            self._steps[level:] = [step, *[None] * (len(steps) - level - 1)]
            parts = zip(self._levels[level], self._directions[level], self._levels[level + 1], strict=True)
            for start, along, end in parts:
                torch.add(start, along, alpha=step, out=end)
        return self._levels[-1]


class _Answers:
    """What the first layer says of a batch, along directions: its answer is linear in its weights.

    Args:
        rows: for the origin, and for each direction.
    """

    def __init__(self, rows: Sequence[torch.Tensor]) -> None:
        start, *ways, self._last = rows
        self._rest = Moving([start], [[way] for way in ways])
        self._here = torch.empty_like(start)

    def to(self, steps: Sequence[float]) -> torch.Tensor:
        """The answer at these steps, in a tensor that the caller may write over."""
        (row,) = self._rest.to(steps[:-1])
        return torch.add(row, self._last, alpha=steps[-1], out=self._here)


def _merged(batches: Sequence[Batch]) -> list[Batch]:
    """The same examples in fewer batches: around small ones there is more work than in them."""
    groups: list[list[Batch]] = []
    for batch in batches:
        if not groups or sum(map(len, groups[-1])) + len(batch) > _MOST_ROWS:
            groups.append([])
        groups[-1].append(batch)
    return [
        group[0]
        if len(group) == 1
        else Batch(
            x=torch.cat([b.x for b in group]),
            y=torch.cat([b.y for b in group]),
            index=torch.cat([b.index for b in group]),
        )
        for group in groups
    ]


def plain_cross_entropy(loss: Loss, batches: Sequence[Batch]) -> bool:
    """Whether a loss is the mean of ``logsumexp(z) - z_y`` over all examples, each with one class."""
    inner = loss.loss if isinstance(loss, Picked) and loss.pick is None else loss
    if type(inner) is not CrossEntropy or inner.label_smoothing:
        return False
    targets = [batch.y for batch in batches]
    return all(isinstance(y, torch.Tensor) and y.dtype == torch.int64 and y.ndim == 1 for y in targets) and all(
        bool(((y >= 0) & (y != inner.ignore_index)).all()) for y in targets
    )


def error_of(values: torch.Tensor, weights: torch.Tensor) -> float:
    """The standard error of the weighted mean of examples; NaN of a single one."""
    total = float(weights.sum())
    n = int((weights > 0).sum())
    if n < 2:
        return math.nan
    apart = weights * (values - (weights * values).sum() / total)
    return math.sqrt(n / (n - 1) * float(apart.square().sum())) / total


def _must_fit(objective: Objective, direction: Point) -> None:
    wanted, came = ([tuple(value.shape) for value in held] for held in (objective.origin, direction))
    if wanted != came:
        raise UsageError(f"a direction with shapes {wanted} was required, {came} came: give one tensor a parameter")
