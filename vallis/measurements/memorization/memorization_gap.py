"""How well a network fits the noisy labels of its training set, beside the clean ones.

Definition: an example is noisy where its training label differs from the true one (a split "true_labels" holds the
    examples of the training split, in its order, with the labels that they had). The accuracy gap is the accuracy on
    clean examples minus that on noisy ones, both by the given label, and the loss gap is the mean loss on noisy ones
    minus that on clean ones: a network that learned every label by heart has none, one that resists the noise has a
    large one. Of the noisy examples a share is memorized (answered with the given label), a share recovered (answered
    with the true one), and the rest neither; a tie is no answer. Losses are cross-entropies, whatever was trained on.
Unit: 1 for accuracies and probabilities, nats for losses.
Source: Arpit et al. (2017); Zhang et al. (2017), section 2.1 (the corruption).
Cost: one pass forward over the training examples, a third of a gradient each.
Says little when: there are few noisy examples (see n), or their labels are wrong in a way that can be learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from vallis.core.figures import Axis, Figure, Mark
from vallis.core.numbers import quantity
from vallis.core.objective import Objective, Term
from vallis.core.progress import track
from vallis.core.rng import Rng
from vallis.core.types import Array, Estimate, NotApplicable, Note, Outcome, Result, Solution, Source
from vallis.measurements._sources import ZHANG
from vallis.numerics.joint_passes import passes
from vallis.numerics.means import Floats, minus, ratio
from vallis.numerics.noisy_labels import WILSON, Fates, fates, noisy_marks, true_targets
from vallis.numerics.presentations import presentations
from vallis.numerics.proportions import Proportion, difference, share
from vallis.numerics.scores import ignored_target
from vallis.numerics.surface import surface
from vallis.problems._checks import check_number

_Values = dict[str, Estimate | Array]


@dataclass(frozen=True, kw_only=True)
class MemorizationGap:
    """Accuracy and loss on noisy and on clean training examples.

    Attributes:
        num_bins: of the histograms of the probability that the given label has.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[str] = "solution"
    needs: ClassVar[frozenset[str]] = frozenset()
    invariances: ClassVar[frozenset[str]] = frozenset({"layer_rescaling", "unit_permutation"})
    panels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"full": {}}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            title="A closer look at memorization in deep networks",
            authors="D. Arpit, S. Jastrzebski, N. Ballas, D. Krueger, E. Bengio, M. S. Kanwal, T. Maharaj, A. Fischer, "
            "A. Courville, Y. Bengio, S. Lacoste-Julien",
            year=2017,
            url="https://arxiv.org/abs/1706.05394",
        ),
        ZHANG,
    )

    num_bins: int = 20

    def __post_init__(self) -> None:
        check_number("memorization_gap.num_bins", self.num_bins)

    @classmethod
    def tiny(cls) -> MemorizationGap:
        """The cheapest settings, for tests."""
        return cls(num_bins=5)

    def measure(self, subject: Any, rng: Rng) -> Outcome:
        return self.measure_many((subject,), rng)[0]

    def measure_many(self, subjects: Sequence[Solution], rng: Rng) -> list[Outcome]:
        true = {place: true_targets(each.task) for place, each in enumerate(subjects)}
        found: dict[int, Outcome] = {}
        for place, each in enumerate(subjects):
            truth = true[place]
            if isinstance(truth, Note):
                found[place] = NotApplicable(note=truth)
            elif each.task.loss.kind not in ("categorical", "binary"):
                text = "Nothing here is classified by the scores of classes, so there are no labels to be noisy."
                found[place] = NotApplicable(note=Note(code="not_classification", text=text))
        left = [place for place in true if place not in found]
        objectives = [surface(subjects[place], "train").objective for place in left]
        looks = _sides(objectives, [truth for place in left if not isinstance(truth := true[place], Note)])
        found |= {place: self._outcome(sides) for place, sides in zip(left, looks, strict=True)}
        return [found[place] for place in range(len(subjects))]

    def _outcome(self, sides: Mapping[str, _Side] | None) -> Outcome:
        if sides is None:
            text = "The outputs are no scores of classes that fit the labels, so no answer is right or wrong."
            return NotApplicable(note=Note(code="not_classification", text=text))
        if not sides["noisy"].size:
            text = "No training label differs from the true one, so there is nothing noisy to memorise."
            return NotApplicable(note=Note(code="no_noisy_labels", text=text))
        return Result(values=self._values(sides), notes=_notes(sides))

    def _values(self, sides: Mapping[str, _Side]) -> _Values:
        clean, found = sides["clean"], _fates(sides)
        values: _Values = {**found.estimates()}
        shares = {"noisy": found.noisy, "memorized": found.memorized, "recovered": found.recovered}
        values |= {f"{name}_fraction_interval": _interval(one) for name, one in shares.items() if one is not None}
        for name, side in sides.items():
            values |= side.means(name, self.num_bins) if side.size else {}
        if clean.size and found.memorized is not None:
            accuracy = share(int(clean.right.sum()), clean.size)
            values |= _share("clean_accuracy", accuracy, WILSON.format("the clean examples, by the given label"))
            method = "clean accuracy minus the memorized share; Newcombe's interval at 95 %, the error bar is from both"
            values |= _share("accuracy_gap", difference(accuracy, found.memorized), method)
            wrong, right = values["noisy_loss"], values["clean_loss"]
            assert isinstance(wrong, Estimate) and isinstance(right, Estimate)
            values["loss_gap"] = minus(wrong, right, "noisy minus clean loss")
        return values

    def figures(self, result: Result) -> tuple[Figure, ...]:
        return (_bars(result), _histograms(result))

    def reading(self, result: Result) -> str:
        found, (low, high) = result.estimate("memorized_fraction"), result.array("memorized_fraction_interval").data
        number, true = result.estimate("noisy_fraction"), result.estimate("recovered_fraction")
        said = f"A share of {quantity(number)} of the {number.n:,} training labels is not the true one. "
        of = f"the {found.n:,} noisy labels a share of" if found.n > 1 else "that one label a share of"
        said += f"Of {of} {quantity(found)} is memorized (between {low:.3g} and {high:.3g}), "
        said += f"while {quantity(true)} of their inputs still get the true label"
        if "accuracy_gap" not in result.values:
            return f"{said}."
        gap, (low, high) = result.estimate("accuracy_gap"), result.array("accuracy_gap_interval").data
        said += f". Of the clean labels {quantity(result.estimate('clean_accuracy'))} are fitted"
        if low <= 0 <= high:
            return f"{said}: noisy and clean labels are fitted alike, as far as {found.n:,} examples tell."
        more = "less" if gap.value > 0 else "more"
        return f"{said}: noisy labels are fitted {more} often, by {quantity(gap)}."


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """The noisy or the clean examples ``(n,)``: what the network says of their given and of their true label."""

    right: Floats
    losses: Floats
    probabilities: Floats
    right_by_truth: Floats
    losses_by_truth: Floats
    probabilities_by_truth: Floats

    @property
    def size(self) -> int:
        return len(self.right)

    def means(self, name: str, num_bins: int) -> _Values:
        method = f"mean over the {name} examples; the error bar is over their choice"
        values: _Values = {
            f"{name}_loss": _mean(self.losses, "nats", method),
            f"{name}_probability": _mean(self.probabilities, "1", f"{method}; of the given label"),
        }
        if name == "noisy":
            values["noisy_true_loss"] = _mean(self.losses_by_truth, "nats", f"{method}; by the true label")
            values["noisy_true_probability"] = _mean(self.probabilities_by_truth, "1", f"{method}; of the true label")
        finite = self.probabilities[np.isfinite(self.probabilities)]
        counts, edges = np.histogram(finite, bins=num_bins, range=(0, 1))
        coords = {"probability": (edges[1:] + edges[:-1]) / 2}
        values[f"{name}_histogram"] = Array(data=counts / self.size, dims=("probability",), coords=coords)
        return values


def _sides(objectives: Sequence[Objective], true: Sequence[torch.Tensor]) -> list[dict[str, _Side] | None]:
    """The noisy and the clean examples of each; None where outputs are no scores of the labels."""
    seen = [_Seen(objective, truth) for objective, truth in zip(objectives, true, strict=True)]
    with torch.no_grad():
        for place, term, outputs in track(passes(objectives), "labels"):
            seen[place].add(term, outputs)
    return [each.sides() for each in seen]


class _Seen:
    """What was seen of the training examples."""

    def __init__(self, objective: Objective, true: torch.Tensor) -> None:
        self._loss, self._true = objective.loss, true
        self._known, self._order = torch.cat([batch.index.cpu() for batch in objective.data]).sort()
        self._found: list[Floats] = []
        self._fits = True

    def add(self, term: Term, outputs: Any) -> None:
        loss, y = self._loss, term.batch.y
        scores, kind, ignored = loss.scores(outputs), loss.kind, ignored_target(loss)
        # By identity: batches in which nothing counts are passed over.
        truth = self._true[self._order[torch.searchsorted(self._known, term.batch.index.cpu())]].to(y.device)
        if scores is None or not _fit(scores, y, kind):
            self._fits = False
            return
        how = ("binary" if kind == "binary" else "categorical", -100 if ignored is None else ignored)
        parts = [presentations(scores, targets, *how) for targets in (y, truth)]  # type: ignore[arg-type]
        chosen = parts[0].counted & parts[1].counted
        columns = [value for part in parts for value in (part.correct, part.losses, part.probabilities)]
        columns.append(noisy_marks(y, truth, loss).to(chosen.device))
        rows = torch.stack([column.double() for column in columns])
        self._found.append(rows[:, chosen].cpu().numpy())

    def sides(self) -> dict[str, _Side] | None:
        if not self._fits:
            return None
        whole = np.concatenate(self._found, axis=1)
        names = _Side.__dataclass_fields__
        marks = {"noisy": whole[-1] > 0, "clean": whole[-1] == 0}
        return {side: _Side(**dict(zip(names, whole[:-1, mark], strict=True))) for side, mark in marks.items()}


def _fit(scores: torch.Tensor, y: torch.Tensor, kind: str) -> bool:
    if not scores.is_floating_point():
        return False
    if kind == "binary":
        return scores.numel() == y.numel() and len(scores) == len(y)
    shares = y.is_floating_point() and y.shape == scores.shape
    classes = not y.is_floating_point() and y.shape == scores.shape[:1] + scores.shape[2:]
    return scores.ndim > 1 and scores.shape[1] > 1 and (shares or classes)


def _fates(sides: Mapping[str, _Side]) -> Fates:
    marks = torch.cat([torch.full((side.size,), name == "noisy") for name, side in sides.items()])
    answers = [
        torch.cat([torch.from_numpy(getattr(side, key)) > 0 for side in sides.values()])
        for key in ("right", "right_by_truth")
    ]
    return fates(marks, *answers)


def _share(name: str, found: Proportion, method: str) -> _Values:
    return {name: found.estimate(method), f"{name}_interval": _interval(found)}


def _interval(found: Proportion) -> Array:
    return Array(data=np.array([found.low, found.high]), dims=("bound",), coords={"bound": np.array([0.025, 0.975])})


def _mean(values: Floats, unit: str, method: str) -> Estimate:
    value, stderr, n = ratio(values, np.ones_like(values))
    return Estimate(value=value, stderr=stderr, n=n, unit=unit, method=method)


def _notes(sides: Mapping[str, _Side]) -> tuple[Note, ...]:
    notes = []
    if not sides["clean"].size:
        text = "All labels are noisy, so there are no clean ones to compare with."
        notes.append(Note(code="all_noisy", text=text))
    if not all(np.isfinite(side.losses).all() and np.isfinite(side.losses_by_truth).all() for side in sides.values()):
        text = "Some losses are not finite: the training has diverged, or an answer was infinitely wrong."
        notes.append(Note(code="not_finite", text=text))
    return tuple(notes)


def _bars(result: Result) -> Figure:
    names = {
        "clean_accuracy": "clean: given label",
        "memorized_fraction": "noisy: given label",
        "recovered_fraction": "noisy: true label",
        "neither_fraction": "noisy: another label",
    }
    held = {words: result.estimate(key) for key, words in names.items() if key in result.values}
    mark = Mark(
        kind="bar",
        x=list(held),
        y=np.array([found.value for found in held.values()]),
        error=np.array([found.stderr or 0.0 for found in held.values()]),
    )
    return Figure(
        name="noisy_and_clean_answers",
        title="What the network answers on noisy and clean examples",
        x=Axis(label="training examples: label that is answered", scale="category"),
        y=Axis(label="share of the examples"),
        marks=(mark,),
        caption="Error bars: half of Wilson's interval at 68 %.",
    )


def _histograms(result: Result) -> Figure:
    marks = []
    for name in ("noisy", "clean"):
        if f"{name}_histogram" in result.values:
            found = result.array(f"{name}_histogram")
            marks.append(Mark(kind="line", x=found.coords["probability"], y=found.data, label=name))
    return Figure(
        name="probability_of_the_given_label",
        title="How sure the network is of the given label",
        x=Axis(label="probability of the given label"),
        y=Axis(label="share of the examples"),
        marks=tuple(marks),
    )
