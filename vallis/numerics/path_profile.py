"""Loss and error along a path between two networks, and how high the barrier on it is.

The barrier is the most by which the loss lies above the straight line between its values at the two ends (Frankle et
al. 2020, section 2). Its place is found by halving the two intervals beside the highest point seen, until they are
short enough; a peak that lies between two points of the first grid and shows at neither is missed.

Source: Frankle et al. (2020), Linear mode connectivity and the lottery ticket hypothesis, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vallis.core.errors import LossError, SettingsError
from vallis.core.objective import Objective, Point
from vallis.core.rng import Rng
from vallis.numerics.batch_statistics import BatchStatistics, at_own_statistics
from vallis.numerics.paths import Floats, Path, Walk
from vallis.numerics.scores import judge


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network does on some examples.

    Attributes:
        loss: the mean loss.
        error: the share of wrong answers; NaN where nothing is classified.
        losses: ``(N,)`` of each example; None where the loss is no mean over them.
        wrong: ``(N,)`` the share of wrong answers of each example; None where nothing is classified.
        weights: ``(N,)`` how much the loss of each counts.
        answers: ``(N,)`` how many answers each has, which is how much its errors count; None where it has none.
    """

    loss: float
    error: float
    losses: Floats | None
    wrong: Floats | None
    weights: Floats | None
    answers: Floats | None


@dataclass(frozen=True, eq=False)
class Profile:
    """A path that was looked at.

    Attributes:
        moments: ``(T,)`` rising from 0 to 1.
        seen: what was seen at each.
    """

    moments: Floats
    seen: tuple[Seen, ...]

    @property
    def losses(self) -> Floats:
        """``(T,)`` mean losses."""
        return np.array([each.loss for each in self.seen])

    @property
    def errors(self) -> Floats:
        """``(T,)`` shares of wrong answers."""
        return np.array([each.error for each in self.seen])

    def integral(self) -> float:
        """The mean loss over t, by trapezoids."""
        return float(np.trapezoid(self.losses, self.moments))

    def of_examples(self, what: str = "losses") -> tuple[Floats, Floats] | None:
        """``(T, N)`` the losses (or "wrong") of each example and its weight ``(N,)``; None where there are none."""
        rows = [getattr(each, what) for each in self.seen]
        weights = self.seen[0].weights if what == "losses" else self.seen[0].answers
        return None if weights is None or any(row is None for row in rows) else (np.stack(rows), weights)


@dataclass(frozen=True, eq=False)
class Barrier:
    """How high a path rises above the straight line between its ends.

    Attributes:
        height: the most that it does; 0 where it never does. On few examples a low one is too high on the average.
        moment: where.
        stderr: over the choice of examples, by resampling them; None where the loss is no mean over examples.
        interval: of 95 %, over the choice of examples; NaN where there is none.
    """

    height: float
    moment: float
    stderr: float | None
    interval: tuple[float, float]


def look(objective: Objective, point: Point) -> Seen:
    """What a network does on the examples of an objective, at a point of it, in one pass."""
    loss, wrong, counted, parts, weights, misses = 0.0, 0.0, 0, [], [], []
    apart = judged_all = True
    with torch.no_grad():
        for term in objective.terms():
            outputs, y = term.outputs(point), term.batch.y
            loss += term.share * term.loss_of_outputs(outputs).double().item()
            if apart:
                try:
                    each, weight = objective.loss.per_example(outputs, y)
                    parts.append(each.double().cpu())
                    weights.append(weight.double().cpu())
                except LossError:
                    apart = False
            judged = judge(objective.loss, outputs, y)
            judged_all = judged_all and judged is not None
            if judged is not None:
                missed = (judged.margins <= 0).double().cpu()
                wrong, counted = wrong + float(missed.sum()), counted + len(missed)
                rows = torch.zeros(2, len(term.batch), dtype=torch.float64)
                rows[0].index_add_(0, judged.rows.cpu(), missed)
                rows[1].index_add_(0, judged.rows.cpu(), torch.ones_like(missed))
                misses.append(rows)
    classified = judged_all and counted > 0
    wrong_of, answers = torch.cat(misses, dim=1).numpy() if classified else (None, None)
    return Seen(
        loss=loss,
        error=wrong / counted if classified else float("nan"),
        losses=torch.cat(parts).numpy() if apart else None,
        wrong=None if wrong_of is None or answers is None else wrong_of / np.maximum(answers, 1),
        weights=torch.cat(weights).numpy() if apart else None,
        answers=answers,
    )


class Looker:
    """Looks at networks along a path, each with the buffers that belong to its weights.

    Args:
        objectives: the loss surface over each of some splits.
        path: the curve; its ends are networks of these objectives.
        end_buffers: the buffers of the end; between the ends floating buffers go from those of the start to these in
            proportion to t.
        statistics: computes running statistics anew at every point, the ends among them; None keeps the buffers.
            Frozen parameters, and whatever else is no statistic, go from end to end in either case.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        path: Path,
        end_buffers: Objective | None = None,
        statistics: BatchStatistics | None = None,
    ) -> None:
        self._objectives, self._walk, self._statistics = objectives, Walk(objectives[0], path), statistics
        self._start = objectives[0].buffers
        self._end = self._start if end_buffers is None else end_buffers.buffers

    def at(self, t: float) -> tuple[Seen, ...]:
        """What is seen at t on each split."""
        point = self._walk.to(t)
        buffers = {name: _between(value, self._end[name], t) for name, value in self._start.items()}
        if self._statistics is not None:
            buffers = dict(self._statistics.at(point, buffers))
        return tuple(look(at_own_statistics(objective, buffers), point) for objective in self._objectives)

    def profiles(self, num_points: int = 21, tolerance: float = 0.005) -> tuple[Profile, ...]:
        """A profile for each split, on one set of moments: a grid, refined beside the highest barrier of each.

        Args:
            num_points: of the first grid, the ends among them; the bends of the path come on top.
            tolerance: the intervals beside the highest point are at most this long.

        Raises:
            SettingsError: fewer than three points, or no positive tolerance.
        """
        if num_points < 3 or not tolerance > 0:
            raise SettingsError(
                f"three points and a tolerance above 0 were required, {num_points} and {tolerance} came: raise them"
            )
        grid = sorted({*np.linspace(0, 1, num_points).tolist(), *self._walk.path.knots})
        seen = {t: self.at(t) for t in grid}
        while new := {t for place in range(len(self._objectives)) for t in _halves(seen, place, tolerance)}:
            seen |= {t: self.at(t) for t in sorted(new)}
        moments = sorted(seen)
        return tuple(
            Profile(np.array(moments), tuple(seen[t][place] for t in moments)) for place in range(len(self._objectives))
        )


def barrier_of(profile: Profile, rng: Rng, what: str = "losses", num_resamples: int = 200) -> Barrier:
    """The barrier of a profile in its losses (or in its errors: what="wrong").

    Args:
        profile: as it was seen.
        rng: chooses the resamples of the examples.
        what: "losses" or "wrong".
        num_resamples: of the examples, for the error bar.
    """
    values = profile.losses if what == "losses" else profile.errors
    above = excess(profile.moments, values)
    place = int(np.nanargmax(above)) if np.isfinite(above).any() else 0
    if not np.isfinite(values).all():
        height = float("inf") if what == "losses" else float("nan")
        return Barrier(height, float(profile.moments[place]), None, (float("nan"), float("nan")))
    held = profile.of_examples(what)
    stderr, interval = None, (float("nan"), float("nan"))
    if held is not None and held[0].shape[1] > 1 and np.isfinite(held[0]).all():
        risen = _resampled(profile.moments, *held, rng, num_resamples)
        stderr = float(np.maximum(risen.max(axis=1), 0.0).std(ddof=1))
        interval = _interval(above, risen)
    return Barrier(float(max(above[place], 0.0)), float(profile.moments[place]), stderr, interval)


def excess(moments: Floats, values: Floats) -> Floats:
    """``(..., T)`` by how much values along a path lie above the straight line between the first and the last."""
    with np.errstate(invalid="ignore"):  # between infinite ends there is no line: NaN
        return np.asarray(values - ((1 - moments) * values[..., :1] + moments * values[..., -1:]))


def _resampled(moments: Floats, values: Floats, weights: Floats, rng: Rng, count: int) -> Floats:
    """``(R, T)`` by how much resampled examples lie above the line between the ends."""
    size, generator, risen = values.shape[1], rng.numpy(), []
    for _ in range(count):
        drawn = np.bincount(generator.integers(size, size=size), minlength=size) * weights
        if drawn.sum() > 0:
            risen.append(excess(moments, values @ drawn / drawn.sum()))
    return np.array(risen)


def _interval(above: Floats, risen: Floats) -> tuple[float, float]:
    """Where the barrier lies in 95 of 100 cases.

    The largest of many means is too large on the average, and resampling adds as much again, so quantiles of resampled
    heights lie above a low barrier. But a way rises at least by what any of its points is sure to do, all together,
    and at most by what one of them may do.
    """
    spread = risen.std(axis=0, ddof=1)
    unsure = spread > 1e-9 * spread.max()
    moved = np.zeros_like(risen)
    moved[:, unsure] = (risen - above)[:, unsure] / spread[unsure]
    lowest = (above - np.quantile(moved.max(axis=1), 0.975) * spread).max()
    highest = max(np.quantile(risen, 0.975, axis=0).max(), above.max())
    return float(max(lowest, 0.0)), float(max(highest, 0.0))


def _halves(seen: dict[float, tuple[Seen, ...]], place: int, tolerance: float) -> list[float]:
    """The middles of the intervals beside the highest point, where they are still too long."""
    moments = np.array(sorted(seen))
    losses = np.array([seen[t][place].loss for t in moments])
    above = excess(moments, np.where(np.isfinite(losses), losses, np.inf))
    highest = int(np.nanargmax(above)) if np.isfinite(above).any() else 0
    pairs = [(highest - 1, highest), (highest, highest + 1)]
    inside = [(moments[i], moments[j]) for i, j in pairs if i >= 0 and j < len(moments)]
    return [float((a + b) / 2) for a, b in inside if b - a > tolerance]


def _between(start: torch.Tensor, end: torch.Tensor, t: float) -> torch.Tensor:
    if t == 0.0 or not start.is_floating_point():
        return start
    return end if t == 1.0 else torch.lerp(start, end, t)
