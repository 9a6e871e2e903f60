"""How far the examples are from the decision boundary, in the space of inputs.

Definition: the Euclidean distance of an example to the nearest change of the answer that is found along gradients, on
    ways that begin with DeepFool's steps, towards the nearest example of each of the three nearest other answers, and
    at random points that are nearer still; negative where the answer is wrong. Each is confirmed by the flip and has
    converged where the way to it is at a right angle to the boundary and none of the last random points is nearer and
    answered otherwise. For linear scores whose nearest rival is looked at it is exact, else an upper bound: a boundary
    that bends much may come nearer elsewhere, the more so in many dimensions, where random points see little.
Unit: that of the inputs.
Source: Moosavi-Dezfooli et al. (2016), algorithm 2; Huang et al. (2019), section 4 (flat minima have wide margins).
Cost: for each example about one gradient for each of `num_rivals` classes a step, 30 passes forward a refinement of
    each of two to five ways, and `num_probes` passes.
Says little when: inputs of other scales are compared; or few have converged, for the bound can be loose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import stats

from vallis.core.data import subset
from vallis.core.errors import SettingsError
from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity
from vallis.core.objective import Objective
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements._sources import HUANG
from vallis.numerics.class_maps import scores_around
from vallis.numerics.input_margins import input_margins
from vallis.numerics.means import Floats
from vallis.numerics.scores import judge
from vallis.numerics.surface import surface

_RESAMPLES = 200
_LEVEL = 0.95
_MOST_OTHERS = 1000


@dataclass(frozen=True, kw_only=True)
class InputMargins:
    """Distances to the decision boundary.

    Attributes:
        split: the examples that were learned.
        test_split: the examples that were not; left out when the task has none.
        max_examples: of more examples a random part of this size is taken.
        max_steps: of DeepFool.
        num_rivals: how many other classes are looked at, those of the highest scores.
        max_refinements: of the direction.
        tolerance: a way has converged when the sine of its angle with the normal of the boundary is at most this.
        num_probes: random points around each example.
        num_bins: of the histograms, which share their edges.
        seed: of the random points.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset({"differentiable"})
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"full": {}}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="DeepFool: a simple and accurate method to fool deep neural networks",
            authors="S. Moosavi-Dezfooli, A. Fawzi, P. Frossard",
            year=2016,
            url="https://arxiv.org/abs/1511.04599",
        ),
        HUANG,
    )

    split: str = "train"
    test_split: str = "test"
    max_examples: int = 500
    max_steps: int = 50
    num_rivals: int = 10
    max_refinements: int = 20
    tolerance: float = 0.01
    num_probes: int = 128
    num_bins: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"max_examples": 1, "max_steps": 1, "num_rivals": 1, "max_refinements": 0, "num_probes": 0}
        least |= {"num_bins": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise SettingsError(f"{name} must be at least {number}, {getattr(self, name)} came: raise it")
        if not self.tolerance > 0:
            raise SettingsError(f"a tolerance above 0 was required, {self.tolerance} came: raise it")

    @classmethod
    def tiny(cls) -> InputMargins:
        """The cheapest settings, for tests."""
        return cls(max_steps=4, max_refinements=0, num_probes=4, num_bins=5)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        solution: Solution = subject
        splits = {"train": self.split}
        if self.test_split in solution.task.splits:
            splits["test"] = self.test_split
        sides: dict[str, _Side] = {}
        for name, split in splits.items():
            objective = surface(solution, split).objective
            part = objective.over(subset(objective.data, self.max_examples, rng.child("examples", split)))
            side = self._side(part)
            if side is None:
                text = "There is no boundary to measure to: inputs in one tensor of numbers, each of one class, were "
                return NotApplicable(note=Note(code="not_classification", text=f"{text}required."))
            sides[name] = side
        found = np.concatenate([side.distances[np.isfinite(side.distances)] for side in sides.values()])
        if not found.size:
            text = "From no example a boundary was found: all inputs are answered alike, or the scores are not finite."
            return NotApplicable(note=Note(code="no_boundary", text=text))
        edges = np.histogram_bin_edges(found, bins=self.num_bins)
        values: dict[str, Estimate | Array] = {}
        for name, side in sides.items():
            values |= {
                f"{name}_{key}": value for key, value in _values(side, edges, rng.child("resamples", name)).items()
            }
        return Result(values=values, notes=_notes(sides))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        names = [name for name in ("train", "test") if f"{name}_histogram" in result.values]
        marks = []
        for name in names:
            held = result.array(f"{name}_histogram")
            edges, heights = _edges(held.coords["distance"]), np.repeat(held.data, 2)
            marks.append(
                Mark(kind="band", x=np.repeat(edges, 2)[1:-1], low=np.zeros_like(heights), high=heights, label=name)
            )
            middle = np.full(2, result.estimate(f"{name}_median").value)
            top = np.array([0.0, float(held.data.max())])
            marks.append(Mark(kind="line", x=middle, y=top, label=name))
        across, share = (
            Axis(label="distance to the boundary (input); left of 0 is wrong"),
            Axis(label="share of examples"),
        )
        title = "How far examples are from the decision boundary"
        caption = "The upright lines are the medians."
        return (Figure(name="input_margins", title=title, x=across, y=share, marks=tuple(marks), caption=caption),)

    def reading(self, result: Result) -> str:
        name = "test" if "test_median" in result.values else "train"
        what = "unseen" if name == "test" else "training"
        middle, low = result.estimate(f"{name}_median"), result.estimate(f"{name}_quantile_05")
        said = (
            f"Half of the {what} examples are further than {quantity(middle).removesuffix(' input')} from a change of "
        )
        said += f"the answer, 19 of 20 further than {quantity(low).removesuffix(' input')} (below 0: on the wrong side)"
        if name == "test":
            seen = quantity(result.estimate("train_median")).removesuffix(" input")
            said += f"; of the training examples half are further than {seen}"
        return f"{said}."

    def _side(self, objective: Objective) -> _Side | None:
        scores = scores_around(objective)
        if scores is None:
            return None
        others = _others(objective)
        distances, converged = [], []
        for batch in track(objective.batches(), "margins"):
            found = input_margins(
                scores,
                batch.x,
                others=others,
                max_steps=self.max_steps,
                num_rivals=self.num_rivals,
                max_refinements=self.max_refinements,
                tolerance=self.tolerance,
                num_probes=self.num_probes,
                rng=Rng(self.seed).child("input_margins"),
            )
            with torch.no_grad():
                judged = judge(objective.loss, objective.outputs_at(objective.origin, batch), batch.y)
            if judged is None:
                return None
            signs = torch.where(judged.margins > 0, 1.0, -1.0).double()
            rows = judged.rows
            distances.append((found.distances[rows].double() * signs).cpu().numpy())
            converged.append(found.converged[rows].cpu().numpy())
        return _Side(np.concatenate(distances), np.concatenate(converged))


def _others(objective: Objective) -> torch.Tensor | None:
    """The first examples, to whose nearest a way begins, however they are cut into batches; None if shapes differ."""
    found: list[torch.Tensor] = []
    for batch in objective.batches():
        found.append(batch.x)
        if sum(map(len, found)) >= _MOST_OTHERS:
            break
    alike = len({x.shape[1:] for x in found}) == 1
    return torch.cat(found)[:_MOST_OTHERS] if alike else None


@dataclass(frozen=True, eq=False)
class _Side:
    """The signed distances ``(M,)`` of a split and whether each has converged ``(M,)``."""

    distances: Floats
    converged: np.ndarray[Any, np.dtype[np.bool_]]


def _values(side: _Side, edges: Floats, rng: Rng) -> dict[str, Estimate | Array]:
    found = side.distances[np.isfinite(side.distances)]
    n = len(side.distances)
    centres = (edges[1:] + edges[:-1]) / 2
    shares = np.histogram(found, bins=edges)[0] / n
    every = np.where(np.isfinite(side.distances), side.distances, np.nan)
    values: dict[str, Estimate | Array] = {
        "histogram": Array(data=shares, dims=("distance",), coords={"distance": centres}),
        "distances": Array(data=every, dims=("example",), unit="input"),
        "converged": Array(data=side.converged.astype(np.float64), dims=("example",)),
        "converged_fraction": Estimate(value=float(side.converged.mean()), stderr=0.0, n=n, method="counted"),
    }
    for key, share in (("median", 0.5), ("quantile_05", 0.05)):
        values[key] = _quantile(found, share, rng.child(key))
    if len(found) > 5:
        values["median_interval"] = Array(data=median_interval(found), dims=("end",), unit="input")
    values["smallest"] = Estimate(value=float(found.min()), n=n, unit="input", method="of these examples")
    return values


def _edges(centres: Floats) -> Floats:
    """``(B + 1,)`` the ends of bins of equal width around these centres."""
    half = float(np.diff(centres).mean()) / 2 if len(centres) > 1 else 0.5
    return np.append(centres - half, centres[-1] + half)


def _quantile(found: Floats, share: float, rng: Rng) -> Estimate:
    drawn = np.quantile(rng.numpy().choice(found, (_RESAMPLES, len(found))), share, axis=1)
    stderr = float(np.std(drawn, ddof=1)) if len(found) > 1 else None
    method = f"quantile of the distances found; the error bar is over the choice of examples ({_RESAMPLES} resamples)"
    return Estimate(value=float(np.quantile(found, share)), stderr=stderr, n=len(found), unit="input", method=method)


def median_interval(values: Floats, level: float = _LEVEL) -> Floats:
    """``(2,)`` order statistics between which the median of the distribution lies at least this often.

    Args:
        values: ``(n,)`` independent draws.
        level: how often.
    """
    ordered, n = np.sort(values), len(values)
    low = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    low = max(0, low - 1)  # the order statistics are counted from 0, and the interval is on the safe side
    return np.array([ordered[low], ordered[n - 1 - low]])


def _notes(sides: Mapping[str, _Side]) -> tuple[Note, ...]:
    notes = []
    for name, side in sides.items():
        lost, n = int((~np.isfinite(side.distances)).sum()), len(side.distances)
        if lost:
            text = f"From {lost} of {n} {name} examples no change of the answer was found: they are left out."
            notes.append(Note(code="no_boundary", text=text))
        slow = n - lost - int(side.converged.sum())
        if slow:
            text = (
                f"For {slow} of {n} {name} examples the way is not at a right angle to the boundary, or a random point "
                "showed another that is nearer: an upper bound."
            )
            notes.append(Note(code="not_converged", text=text))
    return tuple(notes)
