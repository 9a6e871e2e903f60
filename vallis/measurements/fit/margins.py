"""How clearly each example is classified: the distribution of the signed margins.

Definition: the score of the true class minus the largest other score, m = s_y - max over j != y of s_j; with one score
    s for two classes (y in {0, 1}) it is (2 y - 1) s. An answer is right exactly where m > 0. For sequences there is
    one margin for each counted token.
Unit: nats: scores are logits, so a margin is the log-odds of the true class against its strongest rival.
Source: Bartlett et al. (2017), section 1 (the margin before it is normalised).
Cost: one pass forward over both splits, a third of a gradient each.
Says little when: networks of different norms are compared, because scaling the last layer scales every margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import written
from vallis.core.objective import Objective
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.numerics.joint_passes import passes
from vallis.numerics.means import Floats, ratio
from vallis.numerics.proportions import share_by_example
from vallis.numerics.scores import Judged, judge
from vallis.numerics.surface import surface
from vallis.problems._checks import check_number

_QUANTILES = np.array([0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0])
# Of what each example has and how many of its targets count: the mean, its standard error and the number of examples.
_Mean = Callable[[Floats, Floats], tuple[float, float | None, int]]


@dataclass(frozen=True, kw_only=True)
class Margins:
    """The signed margins on two splits.

    Attributes:
        split: the examples that were learned.
        test_split: the examples that were not; left out when the task has none.
        num_bins: of the histograms, which share their edges.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {}, "full": {}}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="Spectrally-normalized margin bounds for neural networks",
            authors="P. L. Bartlett, D. J. Foster, M. Telgarsky",
            year=2017,
            url="https://arxiv.org/abs/1706.08498",
        ),
    )

    split: str = "train"
    test_split: str = "test"
    num_bins: int = 50

    def __post_init__(self) -> None:
        check_number("margins.num_bins", self.num_bins)

    @classmethod
    def tiny(cls) -> Margins:
        """The cheapest settings, for tests."""
        return cls(num_bins=5)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        return self.measure_many((subject,), rng)[0]

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        tested = [place for place, each in enumerate(subjects) if self.test_split in each.task.splits]
        train = _collect([surface(each, self.split).objective for each in subjects])
        found = _collect([surface(subjects[place], self.test_split).objective for place in tested])
        test = dict(zip(tested, found, strict=True))
        looks = [
            {"train": side, **({"test": test[place]} if place in test else {})} for place, side in enumerate(train)
        ]
        return [self._outcome(look) for look in looks]

    def _outcome(self, found: Mapping[str, _Side | None]) -> Outcome:
        sides = {name: side for name, side in found.items() if side is not None}
        if len(sides) < len(found):
            text = "There are no margins: nothing here is classified by scores of at least two classes."
            return NotApplicable(note=Note(code="not_classification", text=text))
        finite = np.concatenate([side.finite for side in sides.values()])
        if not finite.size:
            text = "No margin is a finite number: the training has diverged."
            return NotApplicable(note=Note(code="not_finite", text=text))
        edges = np.histogram_bin_edges(finite, bins=self.num_bins)
        values: dict[str, Estimate | Array] = {}
        for name, side in sides.items():
            values |= {f"{name}_{key}": value for key, value in side.values(edges).items()}
        return Result(values=values, notes=_notes(sides))

    def figures(self, result: Result) -> tuple[Figure, ...]:
        marks = []
        for name in ("train", "test"):
            if f"{name}_histogram" in result.values:
                found = result.array(f"{name}_histogram")
                marks.append(Mark(kind="line", x=found.coords["margin"], y=found.data, label=name))
        figure = Figure(
            name="margins",
            title="Signed margins",
            x=Axis(label="margin (nats); left of 0 is wrong"),
            y=Axis(label="share of the counted targets"),
            marks=tuple(marks),
        )
        return (figure,)

    def reading(self, result: Result) -> str:
        name, what = ("test", "unseen") if "test_error" in result.values else ("train", "training")
        error, middle = result.estimate(f"{name}_error"), result.estimate(f"{name}_median_margin")
        odds = math.exp(min(50.0, max(-50.0, middle.value)))
        said = f"Half of the {what} examples are told from their strongest rival by more than {middle.value:.3g} nats"
        said += f" (odds of {written(odds, digits=3)} to 1); a share of {error.value:.3g} is on the wrong side of zero"
        if name == "test":
            train = result.estimate("train_median_margin").value
            said += f". On the training examples the middle margin is {train:.3g} nats"
        return f"{said}."


@dataclass(frozen=True, eq=False)
class _Side:
    """The margins of a split ``(M,)`` and the number of the example that each belongs to ``(M,)``."""

    margins: Floats
    examples: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def finite(self) -> Floats:
        return self.margins[np.isfinite(self.margins)]

    def values(self, edges: Floats) -> dict[str, Estimate | Array]:
        counts, _ = np.histogram(self.finite, bins=edges)
        centres = (edges[1:] + edges[:-1]) / 2
        share = Array(data=counts / len(self.margins), dims=("margin",), coords={"margin": centres})
        # NaN is an answer without a winner: it sorts below every margin.
        ordered = np.sort(np.where(np.isnan(self.margins), -np.inf, self.margins))
        quantiles = np.quantile(ordered, _QUANTILES, method="inverted_cdf")
        method = "{} over counted targets; the error bar is over the choice of examples"
        return {
            "histogram": share,
            "quantiles": Array(data=quantiles, dims=("quantile",), unit="nats", coords={"quantile": _QUANTILES}),
            "error": self._mean(
                (~(self.margins > 0)).astype(np.float64), "1", method.format("share wrong"), share_by_example
            ),
            "mean_margin": self._mean(self.margins, "nats", method.format("mean"), ratio),
            "median_margin": _median(ordered, len(np.unique(self.examples))),
        }

    def _mean(self, each: Floats, unit: str, method: str, mean: _Mean) -> Estimate:
        counted = np.bincount(self.examples).astype(np.float64)
        value, stderr, n = mean(np.bincount(self.examples, weights=each).astype(np.float64), counted)
        return Estimate(value=value, stderr=stderr, n=n, unit=unit, method=method)


def _collect(objectives: Sequence[Objective]) -> list[_Side | None]:
    """The margins of each; None where nothing is classified."""
    seen = [_Seen() for _ in objectives]
    with torch.no_grad():
        for place, term, outputs in track(passes(objectives), "margins"):
            seen[place].add(judge(objectives[place].loss, outputs, term.batch.y), len(term.batch))
    return [each.side() for each in seen]


class _Seen:
    """What was seen of a split."""

    def __init__(self) -> None:
        self._margins: list[Floats] = []
        self._examples: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        self._num_examples, self._is_judged = 0, True

    def add(self, judged: Judged | None, num_examples: int) -> None:
        if judged is None:
            self._is_judged = False
            return
        self._margins.append(judged.margins.cpu().numpy())
        self._examples.append(judged.rows.cpu().numpy() + self._num_examples)
        self._num_examples += num_examples

    def side(self) -> _Side | None:
        if not self._is_judged:
            return None
        side = _Side(np.concatenate(self._margins), np.concatenate(self._examples))
        return side if len(side.margins) else None


def _median(ordered: Floats, num_examples: int) -> Estimate:
    """The median, with the error bar by which the ranks that enclose it with 68 % of the chance lie apart."""
    m = len(ordered)
    middle = float(np.quantile(ordered, 0.5, method="inverted_cdf"))
    method = "median over counted targets; the error bar is from the ranks around it"
    if num_examples < 2:
        return Estimate(value=middle, stderr=None, n=num_examples, unit="nats", method=method)
    # The rank of the true median is binomial; tokens of one example are no independent draws, examples are.
    reach = m * 0.5 / math.sqrt(num_examples)
    low, high = (ordered[int(np.clip(round(m / 2 + side * reach - 0.5), 0, m - 1))] for side in (-1, 1))
    width = float(high - low) / 2 if np.isfinite(high) and np.isfinite(low) else None
    return Estimate(value=middle, stderr=width, n=num_examples, unit="nats", method=method)


def _notes(sides: dict[str, _Side]) -> tuple[Note, ...]:
    odd = sum(len(side.margins) - len(side.finite) for side in sides.values())
    if not odd:
        return ()
    text = f"{odd} margins are not finite numbers; they are left out of the histograms, and NaN counts as wrong."
    return (Note(code="not_finite", text=text),)
